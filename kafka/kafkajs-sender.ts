import type { Producer as KafkajsProducer, RecordMetadata } from 'kafkajs'
import { settledWithin } from 'service/backoff'
import { kafkaClient } from './client.ts'
import { messagesByTopic, partitionByKey } from './kafkajs-messages.ts'
import type { KafkaRecord } from './record.ts'
import type { ProducerSettings, Sender } from './retrying-producer.ts'

const closeLimitMs = 3_000
const requestTimeoutMs = 15_000

/**
 * Sends by kafkajs. Its producer gives a failed request's sequence numbers to the next one: so it is
 * thrown away after each failure.
 */
export class KafkajsSender implements Sender {
  readonly #settings: ProducerSettings
  /** Topic and partition of every record of the request under way. */
  readonly #partitions = new Set<string>()
  #library: KafkajsProducer | undefined
  #closing: Promise<unknown> = Promise.resolve()

  constructor(settings: ProducerSettings) {
    this.#settings = settings
  }

  async send(records: readonly KafkaRecord[], beforeRequest: () => void): Promise<void> {
    const library = await this.#connected()
    if (library !== this.#library) throw new Error('discarded while it connected')
    beforeRequest()
    const topicMessages = [...messagesByTopic(records)].map(([topic, messages]) => ({
      topic,
      messages,
    }))
    const timeout = Math.round((this.#timeoutMs * 2) / 3)
    this.#partitions.clear()
    const answers = await library.sendBatch({ topicMessages, acks: -1, timeout })
    requireAnswers(this.#partitions, answers)
  }

  discard(): void {
    const library = this.#library
    if (library === undefined) return
    this.#library = undefined
    const closed = settledWithin(library.disconnect(), closeLimitMs)
    this.#closing = Promise.all([this.#closing, closed])
  }

  async closed(): Promise<void> {
    await this.#closing
  }

  get #timeoutMs(): number {
    return this.#settings.requestTimeoutMs ?? requestTimeoutMs
  }

  async #connected(): Promise<KafkajsProducer> {
    if (this.#library !== undefined) return this.#library
    const { brokers, clientId, log } = this.#settings
    const client = kafkaClient({
      brokers,
      clientId,
      retries: 1,
      requestTimeoutMs: this.#timeoutMs,
      // The library calls every attempt an error; this loop reports each at the level it deserves.
      ...(log ? { log: (line) => log({ ...line, level: 'debug' }) } : {}),
    })
    const library = client.producer({
      idempotent: true,
      allowAutoTopicCreation: false,
      maxInFlightRequests: 1,
      // The library refuses fewer. This one retry repeats the same request, sequence and all.
      retry: { retries: 1, initialRetryTime: 50 },
      createPartitioner: () => (of) => {
        const partition = partitionByKey(of)
        this.#partitions.add(`${of.topic} ${partition}`)
        return partition
      },
    })
    this.#library = library
    await library.connect()
    return library
  }
}

/**
 * The library's own retry leaves out brokers that have answered: what has moved to one of them
 * meanwhile is never sent, and the library says that all went well.
 */
function requireAnswers(partitions: ReadonlySet<string>, answers: readonly RecordMetadata[]): void {
  const answered = new Set(answers.map(({ topicName, partition }) => `${topicName} ${partition}`))
  for (const each of partitions) {
    if (!answered.has(each)) throw new Error(`no answer for topic and partition ${each}`)
  }
}
