import { KafkajsSender } from './kafkajs-sender.ts'
import { type Producer, type ProducerSettings, RetryingProducer } from './retrying-producer.ts'

export type { KafkaLog, KafkaLogLine } from './client.ts'
export { type KafkaRecord, RecordRefused } from './record.ts'
export type { FailedAttempt, Producer, ProducerSettings } from './retrying-producer.ts'

/** A producer that sends by kafkajs. Connects at the first `publish`. */
export function openProducer(settings: ProducerSettings): Producer {
  return new RetryingProducer(settings, new KafkajsSender(settings))
}
