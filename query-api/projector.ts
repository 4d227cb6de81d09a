import { describeTopic, topicOffsets } from 'kafka/admin'
import { type BatchAnswer, type ConsumedBatch, runConsumer } from 'kafka/consumer'
import type { Pool } from 'pg'
import { pause } from 'service/backoff'
import type { Log } from 'service/log'
import { applyChunk } from './chunk.ts'
import { databaseFault } from './database-fault.ts'
import { type LogLook, openLogLook } from './log-look.ts'
import { ensureOffsets, lagSeconds, readOffsets } from './offsets.ts'
import { untilItPasses } from './patience.ts'
import type { Projection } from './projection.ts'
import type { NewEntry } from './quarantine/entries.ts'
import type { Repairer } from './quarantine/repairer.ts'
import { runSweeps, type SweepSettings } from './quarantine/sweep.ts'
import type { PartitionLag, ProjectionStatus } from './status.ts'
import { offsetFault, type StopReason } from './stop-reason.ts'

// The loop of one projection. Invariants:
// 1. Offsets live in Postgres and move only in the transaction that applied what lies below them.
// 2. Nothing is skipped and nothing is reset: an account that cannot go on rightly waits in
//    quarantine, and everything else goes on; a partition stops only for what is wrong with itself.
// 3. Postgres or Kafka being away stops nothing; the projector waits, a member of its group.

/**
 * What the projector's sessions force. Rows and offset are one transaction, so that a crash of
 * Postgres could only lose them together, and asynchronous commits would still apply each event
 * once. But a reader may have been shown those rows as fresh, and would then see the past again;
 * and the flush is paid once per chunk, not per event. The timeouts let a paused owner's locks go,
 * so that its successor waits seconds for them.
 */
export const projectorSessionSettings = {
  synchronous_commit: 'on',
  lock_timeout: '5s',
  statement_timeout: '30s',
  idle_in_transaction_session_timeout: '10s',
} as const

/** Beyond the server's own limit: whoever has no answer then is on a dead line. */
export const projectorQueryTimeoutMs = 31_000

export type ProjectorSettings = {
  projection: Projection
  /** Of the role sluice_projector. */
  pool: Pool
  brokers: readonly string[]
  status: ProjectionStatus
  signal: AbortSignal
  log: Log
  /** Told how long each chunk took. */
  observeSeconds?: (seconds: number) => void
  /** How often the log's ends and the topic's id are compared with what is stored. 2 s by default. */
  watchIntervalMs?: number
  /** How it looks at the log then; one of its own by default. */
  lookAtLog?: () => Promise<LogLook>
  chunkRecords?: number
  /** Repairs accounts in quarantine; without one they stay there. */
  repairer?: Repairer
  /** How heads are compared with the feed; without it, a lost last event goes unseen. */
  sweep?: Pick<SweepSettings, 'feed' | 'everyMs' | 'heartbeatSeconds'>
}

/**
 * Projects until the signal aborts. Throws ConsumerFailed after Kafka was away for minutes, and what
 * Postgres says when only a person can mend it (rights, schema); the process should end then.
 */
export async function runProjector(settings: ProjectorSettings): Promise<void> {
  const ended = new AbortController()
  const signal = AbortSignal.any([settings.signal, ended.signal])
  const projector = new Projector({ ...settings, signal })
  const { repairer } = settings
  const work = [projector.consume(), projector.watch(), projector.sweep()]
  if (repairer !== undefined) work.push(repairer.run(signal))
  try {
    await Promise.all(work)
  } finally {
    ended.abort()
    await Promise.allSettled(work)
  }
}

/** Of the accounts that one chunk puts into quarantine, a log line each. */
const loggedEntries = 20

class Projector {
  readonly #settings: ProjectorSettings
  readonly #lookAtLog: () => Promise<LogLook>
  /** The topic as it was when its partitions were assigned. */
  #topicId = ''

  constructor(settings: ProjectorSettings) {
    this.#settings = settings
    const { brokers, status } = settings
    this.#lookAtLog = settings.lookAtLog ?? openLogLook({ brokers, topic: status.topic })
  }

  async consume(): Promise<void> {
    const { brokers, status, signal, log, chunkRecords } = this.#settings
    await runConsumer({
      brokers,
      groupId: status.groupId,
      topic: status.topic,
      signal,
      ...(chunkRecords === undefined ? {} : { chunkRecords }),
      onAssigned: (partitions, assignment) => {
        status.assigned = [...partitions]
        return this.#starts(partitions, assignment)
      },
      onBatch: (batch) => this.#apply(batch),
      onAlive: () => (status.aliveAtMs = performance.now()),
      onRestart: ({ failures, waitMs, error }) => {
        status.trouble = `consuming failed: ${messageOf(error)}`
        log[failures > 3 ? 'error' : 'warn'](
          {
            event: 'consumer_restarts',
            projection: status.projection,
            failures,
            waitMs,
            err: error,
          },
          `consuming ${status.topic} failed and is tried again in ${waitMs} ms`,
        )
      },
      log: ({ level, message, fields }) => {
        const quieter = level === 'error' ? 'warn' : 'debug'
        log[quieter]({ event: 'kafka_client', ...fields }, message)
      },
    })
  }

  async watch(): Promise<void> {
    const { signal, watchIntervalMs = 2_000, log, status } = this.#settings
    while (!signal.aborted) {
      try {
        await this.#compare()
      } catch (error) {
        const lasting = databaseFault(error) === 'lasting' && !isKafkaAway(error)
        log[lasting ? 'error' : 'debug'](
          { event: 'log_not_compared', projection: status.projection, err: error },
          'the log could not be compared with the stored offsets',
        )
      }
      await pause(watchIntervalMs, signal)
    }
  }

  async sweep(): Promise<void> {
    const { sweep, pool, projection, status, signal, log } = this.#settings
    if (sweep === undefined) return
    await runSweeps({
      ...sweep,
      pool,
      projection,
      status,
      signal,
      log,
      onQuarantined: (entries, partition) => this.#quarantined(entries, partition),
    })
  }

  /** Where each partition goes on, or that it does not. */
  async #starts(
    partitions: readonly number[],
    signal: AbortSignal,
  ): Promise<Map<number, bigint | 'stop'>> {
    const { pool, brokers, status } = this.#settings
    const { projection, topic } = status
    return this.#patiently(signal, async () => {
      const { id } = await describeTopic({ brokers, topic })
      const stored = await ensureOffsets(pool, { projection, topic, topicId: id }, partitions)
      // Read after the offsets: a log only grows, so a sound offset is never beyond its end.
      const bounds = await topicOffsets({ brokers, topic })
      this.#topicId = id
      status.log = bounds
      return new Map(
        stored.map(({ partition, ...offset }) => {
          const fault = offsetFault(offset, id, bounds.get(partition) ?? { low: 0n, high: 0n })
          if (fault !== undefined) this.#stop(partition, fault)
          return [partition, status.stopped.has(partition) ? 'stop' : offset.next]
        }),
      )
    })
  }

  async #apply(batch: ConsumedBatch): Promise<BatchAnswer> {
    const { pool, projection, status, observeSeconds } = this.#settings
    const { partition, fetchOffset, signal } = batch
    const topicId = this.#topicId
    const begun = performance.now()
    const outcome = await this.#patiently(signal, async () => {
      if (status.stopped.has(partition)) return undefined
      try {
        return await applyChunk({ pool, projection, topicId }, batch)
      } catch (error) {
        if (databaseFault(error) !== 'data') throw error
        const detail = `records from ${fetchOffset} on cannot be stored: ${String(error)}`
        this.#stop(partition, { code: 'apply_failed', detail, offset: fetchOffset })
        return undefined
      }
    })
    if (outcome === undefined) return 'stop'
    if (outcome.kind === 'moved') return this.#resume(partition, signal)
    observeSeconds?.((performance.now() - begun) / 1_000)
    status.applied += outcome.applied
    status.duplicates += outcome.duplicates
    status.heartbeats += outcome.heartbeats
    status.held += outcome.held
    this.#quarantined(outcome.quarantined, partition)
    if (outcome.stop === undefined) return { next: outcome.next }
    this.#stop(partition, outcome.stop)
    return 'stop'
  }

  /** We stand elsewhere than what is stored. Seeking is right only if the log still holds that. */
  async #resume(partition: number, signal: AbortSignal): Promise<BatchAnswer> {
    const { log, status } = this.#settings
    const start = (await this.#starts([partition], signal)).get(partition) ?? 'stop'
    if (start === 'stop') return 'stop'
    log.warn(
      { event: 'offset_moved', projection: status.projection, partition, offset: String(start) },
      `partition ${partition} goes on at the stored offset ${start}: another owner was here`,
    )
    return { seek: start }
  }

  /** Faults that no record tells of: a topic made anew, a tail lost, while nothing arrives. */
  async #compare(): Promise<void> {
    const { pool, status } = this.#settings
    const stored = await readOffsets(pool, status)
    const { bounds, topicId } = await this.#lookAtLog()
    status.log = bounds
    const lags = new Map<number, PartitionLag>()
    for (const { partition, throughSeconds, ...offset } of stored) {
      const log = bounds.get(partition)
      if (log === undefined || !status.assigned?.includes(partition)) continue
      const events = Math.max(0, Number(log.high - offset.next))
      lags.set(partition, { events, seconds: lagSeconds(events, throughSeconds) })
      const fault = offsetFault(offset, topicId, log)
      // Retention may pass the offset read above while its owner moves on: the next fetch tells.
      if (fault && fault.code !== 'offset_below_log') this.#stop(partition, fault)
    }
    status.lags = lags
  }

  #quarantined(entries: readonly NewEntry[], partition: number): void {
    if (entries.length === 0) return
    const { log, status, repairer } = this.#settings
    const { projection, topic, quarantine } = status
    for (const [index, { offset, detail, ...entry }] of entries.entries()) {
      quarantine.entered.set(entry.code, (quarantine.entered.get(entry.code) ?? 0) + 1)
      if (index >= loggedEntries) continue
      log.error(
        {
          event: 'account_quarantined',
          projection,
          topic,
          partition,
          ...entry,
          offset: offset === null ? null : String(offset),
        },
        `projection ${projection} put account ${entry.account} into quarantine: ${detail}`,
      )
    }
    if (entries.length > loggedEntries) {
      const more = entries.length - loggedEntries
      log.error(
        { event: 'accounts_quarantined', projection, topic, partition, more },
        `and ${more} more accounts at once: GET /projections/${projection}/quarantine`,
      )
    }
    repairer?.wake()
  }

  #stop(partition: number, reason: StopReason): void {
    const { log, status } = this.#settings
    if (status.stopped.has(partition)) return
    status.stopped.set(partition, reason)
    const { projection, topic } = status
    log.error(
      {
        event: 'partition_stopped',
        projection,
        topic,
        partition,
        ...reason,
        offset: String(reason.offset),
      },
      `projection ${projection} stopped partition ${partition}: ${reason.detail}`,
    )
  }

  /** Tries again for as long as Postgres or Kafka is away. */
  #patiently<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
    const { log, status } = this.#settings
    return untilItPasses(attempt, {
      signal,
      passes: (error) => databaseFault(error) === 'passing' || isKafkaAway(error),
      onWait: ({ failures, waitMs, error }) => {
        status.trouble = messageOf(error)
        log[failures > 3 ? 'error' : 'warn'](
          { event: 'projector_waits', projection: status.projection, failures, waitMs, err: error },
          `projection ${status.projection} waits: ${status.trouble}`,
        )
      },
      onSuccess: () => (status.trouble = undefined),
    })
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function isKafkaAway(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'kafka_unreachable'
}
