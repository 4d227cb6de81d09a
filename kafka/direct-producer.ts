import { DirectSender, kafkaRules } from './direct-sender.ts'
import { type Producer, type ProducerSettings, RetryingProducer } from './retrying-producer.ts'

/**
 * A producer that encodes its record batches itself: the same promises as `openProducer`, at a part of
 * the cost. Connects at the first `publish`.
 */
export function openDirectProducer(settings: ProducerSettings, rules = kafkaRules): Producer {
  return new RetryingProducer(settings, new DirectSender(settings, rules))
}
