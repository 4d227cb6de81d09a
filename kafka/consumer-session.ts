import type { Consumer, EachBatchPayload, KafkaMessage } from 'kafkajs'
import { settledWithin } from 'service/backoff'
import { kafkaClient } from './client.ts'
import type { BatchAnswer, ConsumedBatch, ConsumedRecord, ConsumerOptions } from './consumer.ts'
import { within } from './within.ts'

// One membership of a consumer group, from connecting to leaving. Invariants:
// 1. Every assignment pauses its partitions at once; each is fetched only after `onAssigned` said
//    from where. Otherwise a rebalance would begin every partition at the earliest record.
// 2. What was fetched before a seek, a stop or a new assignment is not handed over.
// 3. While a batch is worked on, the group hears of us on a timer, so that slow work (Postgres
//    away) costs no membership; a refused heartbeat aborts the batch's signal instead.
// 4. A member of whom neither group nor log has been heard for two session timeouts is thrown away:
//    on a line that swallows everything the library waits on, far beyond its own limits. So is one
//    that does not get its connection.
// 5. Topics written in Kafka transactions are not for this consumer: their control records take
//    offsets that never arrive, which a caller must take for lost records.

/** What `onBatch` or `onAssigned` threw: no failure of Kafka's, so nothing to start again for. */
export class HandlerFailed extends Error {}

const connectLimitMs = 6_000
const closeLimitMs = 5_000
/** Of one that nobody answers. */
const silentCloseLimitMs = 500
const joinLimitMs = 1_000
const fetchWaitMs = 200

export class ConsumerSession {
  readonly #options: ConsumerOptions
  readonly #consumer: Consumer
  readonly #ended = Promise.withResolvers<void>()
  readonly #atWork = new Set<AbortController>()
  readonly #sessionTimeoutMs: number
  #assignment = new AbortController()
  /** When the group or the log was last heard of; undefined while it joins, which may take longer. */
  #heardMs: number | undefined
  /** Nobody answers: there is no group to say goodbye to. */
  #silent = false

  constructor(options: ConsumerOptions) {
    this.#options = options
    this.#sessionTimeoutMs = options.sessionTimeoutMs ?? 6_000
    const { brokers, groupId, log } = options
    const client = kafkaClient({
      brokers,
      clientId: groupId,
      // Who leads a group may be silent for a session before the others are answered.
      requestTimeoutMs: this.#sessionTimeoutMs + 2_000,
      retries: 1,
      ...(log ? { log } : {}),
    })
    this.#consumer = client.consumer({
      groupId,
      sessionTimeout: this.#sessionTimeoutMs,
      heartbeatInterval: options.heartbeatIntervalMs ?? 1_000,
      rebalanceTimeout: 30_000,
      minBytes: 1,
      maxWaitTimeInMs: fetchWaitMs,
      maxBytesPerPartition: 4_194_304,
      maxBytes: 16_777_216,
      allowAutoTopicCreation: false,
      retry: { retries: 1, initialRetryTime: 100, restartOnFailure: async () => false },
    })
  }

  /** Resolves when the options' signal aborts; rejects with Kafka's failure or HandlerFailed. */
  async run(): Promise<void> {
    const { signal } = this.#options
    const stop = () => {
      this.#abortWork()
      this.#ended.resolve()
    }
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    const started = this.#start()
    const watch = setInterval(() => this.#endWhenSilent(), 1_000)
    try {
      await Promise.race([started, this.#ended.promise])
      await this.#ended.promise
    } finally {
      clearInterval(watch)
      signal.removeEventListener('abort', stop)
      this.#abortWork()
      // The library cannot leave a group that it is just joining: it would stay a member, and hold
      // its partitions, until the session ends.
      await settledWithin(started, joinLimitMs)
      const limitMs = this.#silent ? silentCloseLimitMs : closeLimitMs
      await settledWithin(this.#consumer.disconnect(), limitMs)
    }
  }

  async #start(): Promise<void> {
    const { topic, concurrency = 3 } = this.#options
    const consumer = this.#consumer
    const { CRASH, FETCH, GROUP_JOIN, HEARTBEAT, REBALANCING } = consumer.events
    consumer.on(CRASH, ({ payload }) => this.#ended.reject(payload.error))
    consumer.on(HEARTBEAT, () => this.#heard('heartbeat'))
    consumer.on(FETCH, () => this.#heard('fetch'))
    consumer.on(REBALANCING, () => (this.#heardMs = undefined))
    // The library calls listeners before its next fetch, so that the pause below comes in time.
    consumer.on(GROUP_JOIN, ({ payload }) => this.#joined(payload.memberAssignment[topic] ?? []))
    await this.#connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: concurrency,
      eachBatch: (payload) => this.#handle(payload),
    })
  }

  async #connect(): Promise<void> {
    this.#silent = true
    await within(this.#consumer.connect(), connectLimitMs, 'a connection')
    this.#silent = false
  }

  #heard(sign: 'heartbeat' | 'fetch'): void {
    if (this.#heardMs !== undefined) this.#heardMs = performance.now()
    this.#options.onAlive?.(sign)
  }

  #endWhenSilent(): void {
    const limitMs = 2 * this.#sessionTimeoutMs
    const silentMs = performance.now() - (this.#heardMs ?? Infinity)
    if (silentMs <= limitMs) return
    this.#silent = true
    const what = `neither the group nor the log was heard of for ${Math.round(silentMs)} ms`
    this.#ended.reject(new Error(what))
  }

  #joined(partitions: number[]): void {
    this.#heardMs = performance.now()
    this.#abortWork()
    this.#assignment = new AbortController()
    const { topic } = this.#options
    if (partitions.length > 0) this.#consumer.pause([{ topic, partitions }])
    void this.#begin(partitions, this.#assignment.signal)
  }

  async #begin(partitions: number[], signal: AbortSignal): Promise<void> {
    const { topic, onAssigned } = this.#options
    try {
      const starts = await onAssigned?.(partitions, signal)
      if (signal.aborted) return
      const wanted = partitions.filter((partition) => starts?.get(partition) !== 'stop')
      for (const partition of wanted) {
        const start = starts?.get(partition)
        if (typeof start === 'bigint') this.#seek(partition, start)
      }
      if (wanted.length > 0) this.#consumer.resume([{ topic, partitions: wanted }])
    } catch (error) {
      if (!signal.aborted) this.#fail(error)
    }
  }

  async #handle(payload: EachBatchPayload): Promise<void> {
    const { batch } = payload
    const heartbeat = () => payload.heartbeat()
    const { chunkRecords = 2_000 } = this.#options
    const assignment = this.#assignment.signal
    // The library knows it and does not type it.
    let fetchOffset = BigInt((batch as unknown as { fetchedOffset: string }).fetchedOffset)
    for (let from = 0; from < batch.messages.length; from += chunkRecords) {
      if (assignment.aborted || payload.isStale() || !payload.isRunning()) return
      const records = batch.messages.slice(from, from + chunkRecords).map(recordOf)
      const highWatermark = BigInt(batch.highWatermark)
      const chunk = { topic: batch.topic, partition: batch.partition, fetchOffset, highWatermark }
      const { answer, lost } = await this.#handOver({ ...chunk, records }, heartbeat)
      if (assignment.aborted) return
      if (answer === 'stop') payload.pause()
      else if (answer !== undefined) {
        const after = records.at(-1)!.offset + 1n
        fetchOffset = 'next' in answer ? answer.next : answer.seek
        if ('next' in answer && fetchOffset === after)
          payload.resolveOffset(String(fetchOffset - 1n))
        else this.#seek(batch.partition, fetchOffset)
      }
      if (lost !== undefined) throw lost
      if (answer === undefined || answer === 'stop') return
      await heartbeat()
    }
  }

  /** The answer, unless it is not wanted any more; and what the group said when it put us out. */
  async #handOver(
    chunk: Omit<ConsumedBatch, 'signal'>,
    heartbeat: () => Promise<void>,
  ): Promise<{ answer?: BatchAnswer; lost?: Error }> {
    const { onBatch, heartbeatIntervalMs = 1_000 } = this.#options
    const work = new AbortController()
    this.#atWork.add(work)
    let lost: Error | undefined
    const timer = setInterval(() => {
      heartbeat().catch((error: Error) => {
        lost ??= error
        work.abort(error)
      })
    }, heartbeatIntervalMs)
    try {
      const answer = await onBatch({ ...chunk, signal: work.signal })
      return lost === undefined ? { answer } : { answer, lost }
    } catch (error) {
      if (!work.signal.aborted) this.#fail(error)
      return lost === undefined ? {} : { lost }
    } finally {
      clearInterval(timer)
      this.#atWork.delete(work)
    }
  }

  #seek(partition: number, offset: bigint): void {
    this.#consumer.seek({ topic: this.#options.topic, partition, offset: String(offset) })
  }

  #fail(error: unknown): void {
    this.#ended.reject(new HandlerFailed('a handler threw', { cause: error }))
    this.#abortWork()
  }

  /** Whatever is under way belongs to an assignment that is over. */
  #abortWork(): void {
    const over = new Error('the assignment is over')
    this.#assignment.abort(over)
    for (const work of this.#atWork) work.abort(over)
  }
}

function recordOf(message: KafkaMessage): ConsumedRecord {
  return {
    offset: BigInt(message.offset),
    key: message.key,
    value: message.value,
    headers: message.headers ?? {},
    timestampMs: Number(message.timestamp),
  }
}
