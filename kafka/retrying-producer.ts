import assert, { AssertionError } from 'node:assert'
import { backoffMs, type BackoffBounds, pause, orAborted } from 'service/backoff'
import type { KafkaLog } from './client.ts'
import { isRefusal, protocolErrorOf } from './errors.ts'
import { type KafkaRecord, recordBytes, RecordRefused, requestEnds } from './record.ts'

// What every producer is, whatever sends its requests. Invariants:
// 1. At most one batch is in flight, and what follows a failed request is not sent before it has been
//    repeated: records of one key are appended in the order given, and a repeated batch repeats from
//    its start.
// 2. After any failure the sender begins anew, with a producer id of its own. A request without an
//    answer may have been appended all the same; if its sequence numbers were given to other records,
//    a broker would take those for its repetition and drop them, saying so to nobody.
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
  /** How long a broker may take to answer one request. 15 s by default. */
  requestTimeoutMs?: number
  /** Waits between attempts: 50 ms to 5 s by default. */
  backoff?: BackoffBounds
}

export type Producer = {
  /**
   * Publishes all records, or throws. One call at a time. Kafka being away is waited for as long as
   * it takes, until `signal` aborts: then it throws the signal's reason, and whether the records
   * arrived is not known; as when the producer is disposed of. Throws RecordRefused when Kafka will
   * never take one of them: those before it are confirmed, and of those behind it in its request the
   * ones of other partitions may have been taken, since a broker refuses each partition by itself.
   */
  publish(records: readonly KafkaRecord[], signal: AbortSignal): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Sends one request's worth of records. Not called again before it has settled or was discarded. */
export type Sender = {
  /**
   * Resolves when every record is confirmed by all in-sync replicas. `beforeRequest` is called right
   * before each request leaves; what it throws is thrown, and the request does not leave.
   */
  send(records: readonly KafkaRecord[], beforeRequest: () => void): Promise<void>
  /** Forgets connections, producer id and metadata; what is being sent is given up. */
  discard(): void
  /** Resolves when nothing that was discarded is open any more, or after a few seconds. */
  closed(): Promise<void>
}

const unknownTopic = 3
// A broker cuts the connection at socket.request.max.bytes (100 MB) and says nothing, which would
// look like Kafka being away for ever.
const recordLimitBytes = 50_000_000

/** Thrown by `beforeRequest`: not Kafka's failure, so not one to repeat. */
class Forbidden extends Error {}

/** Publishes by way of a sender, which it owns from here on. */
export class RetryingProducer implements Producer {
  readonly #settings: ProducerSettings
  readonly #sender: Sender
  readonly #disposed = new AbortController()
  #publishing = false

  constructor(settings: ProducerSettings, sender: Sender) {
    this.#settings = settings
    this.#sender = sender
  }

  async publish(records: readonly KafkaRecord[], signal: AbortSignal): Promise<void> {
    assert(!this.#publishing, 'one publish at a time: another would overtake')
    this.#publishing = true
    try {
      await this.#publishAll(records, AbortSignal.any([signal, this.#disposed.signal]))
    } finally {
      this.#publishing = false
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed.abort(new Error('the producer was closed'))
    this.#sender.discard()
    await this.#sender.closed()
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
        this.#sender.discard()
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
      if (refusal === undefined || !isRefusal(refusal.code)) throw error
      if (alone)
        throw new RecordRefused({ index: from, record: first, reason: refusal.type }, error)
      this.#sender.discard()
      const middle = from + Math.ceil((end - from) / 2)
      await this.#sendRange(records, { from, end: middle }, signal)
      await this.#sendRange(records, { from: middle, end }, signal)
    }
  }

  async #send(records: readonly KafkaRecord[], signal: AbortSignal): Promise<void> {
    const beforeRequest = () => {
      try {
        this.#settings.beforeRequest?.()
      } catch (error) {
        throw new Forbidden('forbidden', { cause: error })
      }
    }
    await orAborted(this.#sender.send(records, beforeRequest), signal)
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
