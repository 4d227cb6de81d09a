import assert, { AssertionError } from 'node:assert'
import type { Producer as KafkajsProducer } from 'kafkajs'
import { backoffMs, type BackoffBounds, pause, settledWithin } from 'service/backoff'
import { kafkaClient, type KafkaLog } from './client.ts'
import { protocolErrorOf } from './errors.ts'
import { messagesByTopic, partitionByKey } from './kafkajs-messages.ts'
import { type KafkaRecord, recordBytes, RecordRefused, requestEnds } from './record.ts'

export type { KafkaLog, KafkaLogLine } from './client.ts'
export { type KafkaRecord, RecordRefused } from './record.ts'

// Invariants:
// 1. At most one produce request is in flight, so that nothing overtakes: records of one key are
//    appended in the order given, and a repeated batch repeats from its start.
// 2. After any failure the library's producer is thrown away. It gives a failed request's sequence
//    numbers to the next one; where the failed request had been appended all the same, a broker
//    would take the next records of that partition for its repetition and drop them, saying so to
//    nobody. A new producer id has a new sequence.
// 3. `publish` resolves only when every record of the batch was confirmed by all in-sync replicas.

export type FailedAttempt = {
  /** How often this batch has failed by now. */
  failures: number
  waitMs: number
  error: unknown
}

export type ProducerSettings = {
  brokers: readonly string[]
  clientId: string
  log?: KafkaLog
  /** Told of each failure, before the wait that follows it. */
  onFailedAttempt?: (failed: FailedAttempt) => void
  /** Called before each request, repeated ones too. What it throws ends `publish`. */
  beforeRequest?: () => void
  /** What one request may hold, unless a single record is larger. 900,000 by default. */
  requestLimitBytes?: number
  /** Waits between attempts: 50 ms to 5 s by default. */
  backoff?: BackoffBounds
}

export type Producer = {
  /**
   * Publishes all records, or throws. One call at a time. Kafka being away is waited for as long as
   * it takes, until `signal` aborts: then it throws the signal's reason, and whether the records
   * arrived is not known. Throws RecordRefused when Kafka will never take one of them.
   */
  publish(records: readonly KafkaRecord[], signal: AbortSignal): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Connects at the first `publish`. */
export function openProducer(settings: ProducerSettings): Producer {
  return new RetryingProducer(settings)
}

// RECORD_LIST_TOO_LARGE, MESSAGE_TOO_LARGE, INVALID_TIMESTAMP, UNSUPPORTED_FOR_MESSAGE_FORMAT,
// INVALID_RECORD: about the record. Everything else is about Kafka's state, and passes.
const refusals = new Set([18, 10, 32, 43, 87])
const unknownTopic = 3
const closeLimitMs = 3_000
// A broker cuts the connection at socket.request.max.bytes (100 MB) and says nothing, which would
// look like Kafka being away for ever.
const recordLimitBytes = 50_000_000

/** Thrown by `beforeRequest`: not Kafka's failure, so not one to repeat. */
class Forbidden extends Error {}

class RetryingProducer implements Producer {
  readonly #settings: ProducerSettings
  #library: KafkajsProducer | undefined
  #closing: Promise<unknown> = Promise.resolve()
  #publishing = false

  constructor(settings: ProducerSettings) {
    this.#settings = settings
  }

  async publish(records: readonly KafkaRecord[], signal: AbortSignal): Promise<void> {
    assert(!this.#publishing, 'one publish at a time: another would overtake')
    this.#publishing = true
    try {
      await this.#publishAll(records, signal)
    } finally {
      this.#publishing = false
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#discard()
    await this.#closing
  }

  async #publishAll(records: readonly KafkaRecord[], signal: AbortSignal): Promise<void> {
    const ends = requestEnds(records, this.#settings.requestLimitBytes ?? 900_000)
    for (let failures = 0; ;) {
      signal.throwIfAborted()
      try {
        let from = 0
        for (const end of ends) {
          await this.#sendRange(records, { from, end }, signal)
          from = end
        }
        return
      } catch (error) {
        this.#discard()
        if (error instanceof Forbidden) throw error.cause
        if (error instanceof RecordRefused || error instanceof AssertionError) throw error
        signal.throwIfAborted()
        failures += 1
        const bounds = this.#settings.backoff ?? { firstMs: 50, capMs: 5_000 }
        const waitMs = Math.round(backoffMs(failures, bounds))
        this.#report({ failures, waitMs, error })
        await pause(waitMs, signal)
      }
    }
  }

  /** Sends one run of records; when Kafka refuses it, ever smaller halves, until one stands alone. */
  async #sendRange(
    records: readonly KafkaRecord[],
    { from, end }: { from: number; end: number },
    signal: AbortSignal,
  ): Promise<void> {
    const first = records[from]
    assert(first !== undefined, 'a request without records')
    const alone = end - from === 1
    if (alone && recordBytes(first) > recordLimitBytes) {
      throw new RecordRefused({ index: from, record: first, reason: 'ABOVE_OUR_OWN_LIMIT' })
    }
    try {
      await this.#send(records.slice(from, end), signal)
    } catch (error) {
      const refusal = protocolErrorOf(error)
      if (refusal === undefined || !refusals.has(refusal.code)) throw error
      if (alone)
        throw new RecordRefused({ index: from, record: first, reason: refusal.type }, error)
      this.#discard()
      const middle = from + Math.ceil((end - from) / 2)
      await this.#sendRange(records, { from, end: middle }, signal)
      await this.#sendRange(records, { from: middle, end }, signal)
    }
  }

  async #send(records: readonly KafkaRecord[], signal: AbortSignal): Promise<void> {
    const library = await orAborted(this.#connected(), signal)
    try {
      this.#settings.beforeRequest?.()
    } catch (error) {
      throw new Forbidden('forbidden', { cause: error })
    }
    const topicMessages = [...messagesByTopic(records)].map(([topic, messages]) => ({
      topic,
      messages,
    }))
    await orAborted(library.sendBatch({ topicMessages, acks: -1, timeout: 10_000 }), signal)
  }

  async #connected(): Promise<KafkajsProducer> {
    if (this.#library !== undefined) return this.#library
    const { brokers, clientId, log } = this.#settings
    const client = kafkaClient({
      brokers,
      clientId,
      retries: 1,
      // The library calls every attempt an error; this loop reports each at the level it deserves.
      ...(log ? { log: (line) => log({ ...line, level: 'debug' }) } : {}),
    })
    const library = client.producer({
      idempotent: true,
      allowAutoTopicCreation: false,
      maxInFlightRequests: 1,
      // The library refuses fewer. This one retry repeats the same request, sequence and all.
      retry: { retries: 1, initialRetryTime: 50 },
      createPartitioner: () => partitionByKey,
    })
    this.#library = library
    await library.connect()
    return library
  }

  #discard(): void {
    const library = this.#library
    if (library === undefined) return
    this.#library = undefined
    const closed = settledWithin(library.disconnect(), closeLimitMs)
    this.#closing = Promise.all([this.#closing, closed])
  }

  #report(failed: FailedAttempt): void {
    this.#settings.onFailedAttempt?.(failed)
    const { failures, waitMs, error } = failed
    const missing = protocolErrorOf(error)?.code === unknownTopic
    const why = error instanceof Error ? error.message : String(error)
    this.#settings.log?.({
      level: failures > 8 ? 'error' : failures > 3 || missing ? 'warn' : 'info',
      message: missing
        ? 'a topic does not exist: run npm run migrate; publishing waits for it'
        : `publishing failed and is tried again: ${why}`,
      fields: { failures, waitMs, error: why },
    })
  }
}

/** The promise's outcome, or the signal's reason as soon as it aborts. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const abort = () => reject(signal.reason as Error)
  signal.addEventListener('abort', abort, { once: true })
  work.catch(() => {}) // When the abort comes first, nobody is left to hear of a later failure.
  try {
    if (signal.aborted) abort()
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
