import { describeTopic, topicOffsets } from 'kafka/admin'
import { type BatchAnswer, type ConsumedBatch, runConsumer } from 'kafka/consumer'
import {
  groupProgress,
  openTransactionalProducer,
  type TransactionalProducer,
} from 'kafka/transactional-producer'
import { backoffMs, pause } from 'service/backoff'
import type { Log } from 'service/log'
import { consumerNews } from '../consumer-news.ts'
import type { ProjectionStatus } from '../status.ts'
import { offsetFault, type StopReason } from '../stop-reason.ts'
import { foldStates, RecentHeads } from './latest.ts'

// Keeps the topic `account-state`: of each account its latest state, for whoever loads it as a table.
// A compacted topic keeps what was written last, so who writes last must be right. Invariants:
// 1. States and how far the log is read are one Kafka transaction.
// 2. Each partition has a transactional id, and only an assignment opens a producer of it: that ends
//    what the last owner left open, and Kafka refuses whatever that one still sends.
// 3. Where to go on is asked after the producer was opened, when the last owner can move it no more.
// 4. After any failure the group is left and joined again: it says who goes on.

export type AccountStateSettings = {
  brokers: readonly string[]
  /** Says where it reads, and as which group. */
  status: ProjectionStatus
  /** Where it writes: a compacted topic with as many partitions. */
  topic: string
  signal: AbortSignal
  log: Log
  /** Tombstones that were asked for, to be written with the next states of a partition. */
  tombstones?: Tombstones
  /** Told of what was written, and how far. */
  onWritten?: (written: Written) => Promise<void>
}

export type Written = {
  partition: number
  next: bigint
  topicId: string
  throughAt: string | undefined
  heartbeatAt: string | undefined
}

/** Removes accounts from the topic because somebody asked for it, up to a version. */
export type Tombstones = {
  /** Of one partition: not written yet, and by account the versions of those that were. */
  of(
    partition: number,
    accounts: readonly string[],
  ): Promise<{ due: readonly string[]; through: ReadonlyMap<string, number> }>
  written(accounts: readonly string[]): Promise<void>
}

const restartBackoff = { firstMs: 250, capMs: 5_000 }

/** Runs until the signal aborts. Throws ConsumerFailed after Kafka was away for minutes. */
export async function runAccountState(settings: AccountStateSettings): Promise<void> {
  const { signal, status, log } = settings
  for (let failures = 0; !signal.aborted;) {
    const applied = status.applied
    try {
      await new Builder(settings).run()
    } catch (error) {
      if (signal.aborted) return
      if ((error as { code?: unknown }).code === 'consumer_failed') throw error
      failures = status.applied > applied ? 1 : failures + 1
      const waitMs = Math.round(backoffMs(failures, restartBackoff))
      const { message: why } = error as Error
      status.trouble = `writing ${settings.topic} failed: ${why}`
      log[failures > 3 ? 'error' : 'warn'](
        { event: 'state_builder_restarts', failures, waitMs, err: error },
        `writing ${settings.topic} failed and is tried again in ${waitMs} ms: ${why}`,
      )
      await pause(waitMs, signal)
    }
  }
}

/** What one partition needs, from its assignment on. */
type Own = { producer: TransactionalProducer; heads: RecentHeads; next: bigint }

/** Where each partition goes on. */
type Starts = Map<number, bigint | 'stop'>

/** One membership of the group. */
class Builder {
  readonly #settings: AccountStateSettings
  readonly #own = new Map<number, Own>()
  #opened: TransactionalProducer[] = []
  /** Settles when the last assignment so far has begun, or could not. */
  #begun: Promise<unknown> = Promise.resolve()
  #topicId = ''

  constructor(settings: AccountStateSettings) {
    this.#settings = settings
  }

  async run(): Promise<void> {
    const { brokers, status, signal, log } = this.#settings
    try {
      await runConsumer({
        brokers,
        groupId: status.groupId,
        topic: status.topic,
        signal,
        onAssigned: (partitions, assignment) => this.#inTurn(partitions, assignment),
        onBatch: (batch) => this.#write(batch),
        ...consumerNews(status, log),
      })
    } finally {
      await this.#begun
      await this.#close()
    }
  }

  /** One assignment after the other: one that is over must not open what the next one has opened. */
  #inTurn(partitions: readonly number[], assignment: AbortSignal): Promise<Starts> {
    const begun = this.#begun.then(() => this.#begin(partitions, assignment))
    this.#begun = begun.catch(() => {})
    return begun
  }

  async #begin(partitions: readonly number[], assignment: AbortSignal): Promise<Starts> {
    const { brokers, status } = this.#settings
    const { groupId, topic } = status
    await this.#close()
    assignment.throwIfAborted()
    status.stopped.clear()
    const opened = await Promise.all(partitions.map((partition) => this.#open(partition)))
    const [{ id }, progress] = await Promise.all([
      describeTopic({ brokers, topic }),
      groupProgress({ brokers, groupId, topic }),
    ])
    // Read after the progress: a log only grows, so sound progress is never beyond its end.
    status.log = await topicOffsets({ brokers, topic })
    assignment.throwIfAborted()
    this.#topicId = id
    const starts: Starts = new Map()
    for (const [index, partition] of partitions.entries()) {
      const bounds = status.log.get(partition) ?? { low: 0n, high: 0n }
      const stored = progress.get(partition)
      const next = stored?.next ?? bounds.low
      const fault = stored && offsetFault({ next, topicId: stored.note }, id, bounds)
      if (fault !== undefined) this.#stop(partition, fault)
      else this.#own.set(partition, { producer: opened[index]!, heads: new RecentHeads(), next })
      starts.set(partition, fault === undefined ? next : 'stop')
    }
    status.assigned = [...partitions]
    status.trouble = undefined
    return starts
  }

  async #open(partition: number): Promise<TransactionalProducer> {
    const { brokers, status, log } = this.#settings
    const producer = await openTransactionalProducer({
      brokers,
      name: `${status.groupId}-${partition}`,
      log: ({ level, message, fields }) =>
        log[level === 'error' ? 'warn' : 'debug']({ event: 'kafka_client', ...fields }, message),
    })
    this.#opened.push(producer)
    return producer
  }

  async #write({ partition, records, highWatermark }: ConsumedBatch): Promise<BatchAnswer> {
    const { status, topic, tombstones, onWritten } = this.#settings
    const own = this.#own.get(partition)
    if (own === undefined) return 'stop'
    const [first] = records
    if (first !== undefined && first.offset !== own.next) {
      const detail = `records ${own.next} to ${first.offset - 1n} were deleted unread`
      this.#stop(partition, { code: 'records_missing', detail, offset: own.next })
      return 'stop'
    }
    const next = records.at(-1)!.offset + 1n
    const folded = foldStates(own.heads, records)
    const accounts = folded.states.map(({ account }) => account)
    const { due, through } = (await tombstones?.of(partition, accounts)) ?? none
    const states = folded.states.filter(
      ({ account, version }) => version > (through.get(account) ?? 0),
    )
    const removed = due.map((key) => ({ key, value: null }))
    const written = states.map(({ account: key, value }) => ({ key, value }))
    const { groupId } = status
    const progress = { groupId, topic: status.topic, partition, next, note: this.#topicId }
    await own.producer.write(topic, [...removed, ...written], progress).catch(this.#refused)
    own.next = next
    own.heads.note(folded.states)
    if (due.length > 0) await tombstones?.written(due)
    this.#count(partition, folded)
    this.#compare(partition, next, highWatermark)
    const { throughAt, heartbeatAt } = folded
    await onWritten?.({ partition, next, topicId: this.#topicId, throughAt, heartbeatAt })
    return { next }
  }

  #count(partition: number, folded: ReturnType<typeof foldStates>): void {
    const { status, log } = this.#settings
    status.applied += folded.events
    status.duplicates += folded.duplicates
    status.heartbeats += folded.heartbeatAt === undefined ? 0 : 1
    status.held += folded.unreadable.length
    const place = { projection: status.projection, topic: status.topic, partition }
    for (const { offset, why } of folded.unreadable.slice(0, 20)) {
      log.error(
        { event: 'state_unreadable', ...place, offset: String(offset) },
        `the record at ${offset} is left out, until a later one says what its account is: ${why}`,
      )
    }
    for (const account of folded.conflicts.slice(0, 20)) {
      log.error(
        { event: 'state_conflict', ...place, account },
        `account ${account} has two events of one version: the state after the later one counts`,
      )
    }
  }

  /** Said here: whoever was put out of the group has nobody left to throw it to. */
  readonly #refused = (error: unknown): never => {
    if ((error as { code?: unknown }).code === 'producer_fenced') {
      this.#settings.log.warn(
        { event: 'producer_fenced', err: error },
        'another process has taken over, and what this one was about to write was refused',
      )
    }
    throw error
  }

  #compare(partition: number, next: bigint, high: bigint): void {
    const { status } = this.#settings
    const { low = 0n } = status.log.get(partition) ?? {}
    status.log = new Map(status.log).set(partition, { low, high })
    const lag = { events: Math.max(0, Number(high - next)), seconds: null }
    status.lags = new Map(status.lags).set(partition, lag)
  }

  #stop(partition: number, reason: StopReason): void {
    const { status, log } = this.#settings
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
      `${projection} stopped partition ${partition}: ${reason.detail}`,
    )
  }

  async #close(): Promise<void> {
    const opened = this.#opened
    this.#opened = []
    this.#own.clear()
    await Promise.all(opened.map((producer) => producer[Symbol.asyncDispose]()))
  }
}

const none = { due: [], through: new Map<string, number>() }
