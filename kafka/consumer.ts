import { randomUUID } from 'node:crypto'
import type { BackoffBounds } from 'service/backoff'
import { backoffMs, pause } from 'service/backoff'
import { topicOffsets } from './admin.ts'
import { kafkaClient, type KafkaLog } from './client.ts'
import { ConsumerSession, HandlerFailed } from './consumer-session.ts'

export type ConsumedRecord = {
  offset: bigint
  key: Buffer | null
  value: Buffer | null
  /** In the order in which they were sent. */
  headers: Readonly<Record<string, Buffer | string | (Buffer | string)[] | undefined>>
  timestampMs: number
}

export type ConsumedBatch = {
  topic: string
  partition: number
  /**
   * What was asked for: the record at this offset, or, of a later chunk, where the one before it
   * ended. On a topic that deletes, records missing between it and the first one are gone.
   */
  fetchOffset: bigint
  /** At least one. */
  records: readonly ConsumedRecord[]
  /** The partition's next offset, as the broker said with this fetch. */
  highWatermark: bigint
  /** Aborts when the answer is not wanted any more: the consumer stops, or left the group. */
  signal: AbortSignal
}

/** Go on after these records; go on elsewhere; or leave this partition alone until a restart. */
export type BatchAnswer = { next: bigint } | { seek: bigint } | 'stop'

export type ConsumerOptions = {
  brokers: readonly string[]
  groupId: string
  topic: string
  /** Stops the consumer within about a second, once the running `onBatch` calls have returned. */
  signal: AbortSignal
  /**
   * Where each partition goes on, asked after every assignment and before anything of it is
   * fetched. A partition left out begins at the earliest record. Throwing ends the consumer.
   */
  onAssigned?: (
    partitions: readonly number[],
    signal: AbortSignal,
  ) => Promise<ReadonlyMap<number, bigint | 'stop'>>
  /** One call per partition at a time, in order. Throwing ends the consumer, unless `signal` aborted. */
  onBatch: (batch: ConsumedBatch) => Promise<BatchAnswer>
  /** Told whenever the group's coordinator, or the brokers' log, has answered. */
  onAlive?: (sign: 'heartbeat' | 'fetch') => void
  /** Told of each failure before the wait that follows it. */
  onRestart?: (restart: { failures: number; waitMs: number; error: unknown }) => void
  log?: KafkaLog
  /** Records handed over at once, at most. 2,000 by default. */
  chunkRecords?: number
  /** Partitions handled side by side. 3 by default. */
  concurrency?: number
  sessionTimeoutMs?: number
  heartbeatIntervalMs?: number
  /** Failures in a row after which it gives up. 100 by default: some four minutes without Kafka. */
  restartLimit?: number
  /** Waits between restarts: 250 ms to 3 s by default. */
  backoff?: BackoffBounds
}

/** Kafka could not be consumed for as long as `restartLimit` allows; the last failure is the cause. */
export class ConsumerFailed extends Error {
  readonly code = 'consumer_failed'

  constructor(message: string, options: ErrorOptions) {
    super(message, options)
    this.name = 'ConsumerFailed'
  }
}

/**
 * Consumes a topic in a group whose offsets live elsewhere: nothing is ever committed to Kafka.
 * Resolves when the signal aborts. The client library's own restart loop, which can hide a dead
 * consumer for ever, is off; here a failed consumer is thrown away and made anew, a bounded number
 * of times in a row. A group heartbeat that the coordinator accepted ends the row.
 * Throws ConsumerFailed, and whatever `onBatch` or `onAssigned` threw.
 */
export async function runConsumer(options: ConsumerOptions): Promise<void> {
  const { signal, restartLimit = 100, backoff = { firstMs: 250, capMs: 3_000 } } = options
  let failures = 0
  const onAlive = (sign: 'heartbeat' | 'fetch') => {
    if (sign === 'heartbeat') failures = 0
    options.onAlive?.(sign)
  }
  while (!signal.aborted) {
    try {
      await new ConsumerSession({ ...options, onAlive }).run()
    } catch (error) {
      if (error instanceof HandlerFailed) throw error.cause
      if (signal.aborted) return
      failures += 1
      if (failures > restartLimit) {
        const why = error instanceof Error ? error.message : String(error)
        const message = `consuming ${options.topic} failed ${failures} times in a row: ${why}`
        throw new ConsumerFailed(message, { cause: error })
      }
      const waitMs = Math.round(backoffMs(failures, backoff))
      options.onRestart?.({ failures, waitMs, error })
      await pause(waitMs, signal)
    }
  }
}

export type RecordSearch = {
  brokers: readonly string[]
  topic: string
  key: string
  signal: AbortSignal
  /** Only a record with a timestamp from here on. */
  since?: Date
}

/** How far before each partition's present end the search begins. */
const lookBack = 1_000n

/**
 * Where the first record with a key is, among the last thousand of each partition and those that
 * come from now on. Waits for it until the signal aborts, and throws the signal's reason then.
 * Uses a consumer group of its own, which it removes.
 */
export async function findRecord(
  search: RecordSearch,
): Promise<{ partition: number; offset: bigint }> {
  const { brokers, topic, signal, since } = search
  const groupId = `sluice-find-${randomUUID()}`
  const key = Buffer.from(search.key)
  const done = new AbortController()
  let found: { partition: number; offset: bigint } | undefined
  try {
    await runConsumer({
      brokers,
      groupId,
      topic,
      signal: AbortSignal.any([signal, done.signal]),
      onAssigned: async () => {
        const offsets = await topicOffsets({ brokers, topic })
        return new Map([...offsets].map(([partition, log]) => [partition, startWithin(log)]))
      },
      onBatch: async ({ partition, records }) => {
        const record = records.find(
          (each) => each.key?.equals(key) && each.timestampMs >= (since?.getTime() ?? -Infinity),
        )
        if (record !== undefined && found === undefined) {
          found = { partition, offset: record.offset }
          done.abort()
        }
        return { next: records.at(-1)!.offset + 1n }
      },
    })
  } finally {
    await removeGroup(brokers, groupId)
  }
  if (found !== undefined) return found
  throw signal.reason
}

function startWithin({ low, high }: { low: bigint; high: bigint }): bigint {
  return high - low > lookBack ? high - lookBack : low
}

/** An empty group without offsets goes away by itself in time; this is only tidier. */
async function removeGroup(brokers: readonly string[], groupId: string): Promise<void> {
  const admin = kafkaClient({ brokers, clientId: 'sluice-find', retries: 1 }).admin()
  try {
    await admin.connect()
    await admin.deleteGroups([groupId])
  } catch {
    // Kafka is away, or the group was never made.
  } finally {
    await admin.disconnect()
  }
}
