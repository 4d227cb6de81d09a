import { describeTopic, topicOffsets } from 'kafka/admin'
import { type BatchAnswer, type ConsumedBatch, runConsumer } from 'kafka/consumer'
import type { Pool } from 'pg'
import { pause } from 'service/backoff'
import type { Log } from 'service/log'
import { applyChunk } from './chunk.ts'
import { consumerNews, messageOf } from './consumer-news.ts'
import { databaseFault } from './database-fault.ts'
import { type LogLook, openLogLook } from './log-look.ts'
import { ensureOffsets, lagSeconds, readOffsets, type StoredOffset } from './offsets.ts'
import { runPartitionRepairs } from './partition-repair/repairs.ts'
import { putStop, readStops } from './partition-repair/stops.ts'
import { untilItPasses } from './patience.ts'
import type { Projection } from './projection.ts'
import type { NewEntry } from './quarantine/entries.ts'
import type { Repairer } from './quarantine/repairer.ts'
import { runSweeps, type SweepSettings } from './quarantine/sweep.ts'
import type { PartitionLag, ProjectionStatus } from './status.ts'
import { type LogBounds, offsetFault, type StopReason } from './stop-reason.ts'

// The loop of one projection. Invariants:
// 1. Offsets live in Postgres and move only in the transaction that applied what lies below them.
// 2. Nothing is skipped and nothing is reset: an account that cannot go on rightly waits in
//    quarantine, and everything else goes on; a partition stops only for what is wrong with itself,
//    and goes on only when every account of it was compared with the feed.
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
  /** Repairs accounts in quarantine, and partitions that stopped; without one they stay so. */
  repairer?: Repairer
  /** How often it looks for partitions to repair. 1 s by default. */
  repairIntervalMs?: number
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
  const work = [projector.consume(), projector.watch(), projector.sweep(), projector.repair()]
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
  /** Ends the present membership of the group; there is a next one. */
  #rejoin = new AbortController()

  constructor(settings: ProjectorSettings) {
    this.#settings = settings
    const { brokers, status } = settings
    this.#lookAtLog = settings.lookAtLog ?? openLogLook({ brokers, topic: status.topic })
  }

  async consume(): Promise<void> {
    while (!this.#settings.signal.aborted) {
      this.#rejoin = new AbortController()
      await this.#consumeAsMember(this.#rejoin.signal)
    }
  }

  async #consumeAsMember(over: AbortSignal): Promise<void> {
    const { brokers, status, signal, log, chunkRecords } = this.#settings
    await runConsumer({
      brokers,
      groupId: status.groupId,
      topic: status.topic,
      signal: AbortSignal.any([signal, over]),
      ...(chunkRecords === undefined ? {} : { chunkRecords }),
      onAssigned: (partitions, assignment) => {
        status.assigned = [...partitions]
        for (const partition of status.stopped.keys()) {
          if (!partitions.includes(partition)) status.stopped.delete(partition)
        }
        return this.#starts(partitions, assignment)
      },
      onBatch: (batch) => this.#apply(batch),
      ...consumerNews(status, log),
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

  async repair(): Promise<void> {
    const { repairer, repairIntervalMs: everyMs = 1_000, ...settings } = this.#settings
    if (repairer === undefined) return
    await runPartitionRepairs({
      ...settings,
      repairer,
      everyMs,
      lookAtLog: () => this.#lookAtLog(),
      onQuarantined: (entries, partition) => this.#quarantined(entries, partition),
      // The consumer takes up no partition that it has left alone but by a new assignment.
      onOver: () => this.#rejoin.abort(),
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
      const stops = await readStops(pool, status)
      // Read after the offsets: a log only grows, so a sound offset is never beyond its end.
      const bounds = await topicOffsets({ brokers, topic })
      this.#topicId = id
      status.log = bounds
      const starts = new Map<number, bigint | 'stop'>()
      for (const { partition, next, topicId } of stored) {
        status.stopped.delete(partition)
        const log = bounds.get(partition) ?? { low: 0n, high: 0n }
        await this.#stopAtFault({ partition, next, topicId }, id, log)
        // As it was left, even if the log looks sound again.
        const left = stops.get(partition)
        if (left) this.#stop(partition, { code: left.code, detail: left.detail, offset: next })
        starts.set(partition, status.stopped.has(partition) ? 'stop' : next)
      }
      return starts
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
    const { bounds, topicId: id } = await this.#lookAtLog()
    status.log = bounds
    const lags = new Map<number, PartitionLag>()
    for (const { partition, throughSeconds, ...offset } of stored) {
      const log = bounds.get(partition)
      if (log === undefined || !status.assigned?.includes(partition)) continue
      const events = Math.max(0, Number(log.high - offset.next))
      lags.set(partition, { events, seconds: lagSeconds(events, throughSeconds) })
      // Retention may pass the offset read above while its owner moves on: the next fetch tells.
      const { high } = log
      await this.#stopAtFault({ partition, ...offset }, id, { low: 0n, high })
    }
    status.lags = lags
  }

  /** Stops a partition whose stored offset cannot be gone on from, and stores that. */
  async #stopAtFault(stored: StoredOffset, foundTopicId: string, log: LogBounds): Promise<void> {
    const { pool, status } = this.#settings
    const { partition, topicId } = stored
    const fault = offsetFault(stored, foundTopicId, log)
    if (fault === undefined) return
    const place = { projection: status.projection, topic: status.topic, partition }
    const stands = await putStop(pool, place, { ...fault, topicId, foundTopicId })
    if (stands) this.#stop(partition, fault)
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
    status.stops.set(reason.code, (status.stops.get(reason.code) ?? 0) + 1)
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
        const what = isKafkaAway(error) ? '' : 'the read database: '
        status.trouble = `${what}${messageOf(error)}`
        log[failures > 3 ? 'error' : 'warn'](
          { event: 'projector_waits', projection: status.projection, failures, waitMs, err: error },
          `projection ${status.projection} waits: ${status.trouble}`,
        )
      },
      onSuccess: () => (status.trouble = undefined),
    })
  }
}

function isKafkaAway(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'kafka_unreachable'
}
