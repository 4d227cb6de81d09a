import { topicOf } from 'outbox-relay/wire'
import type { LogBounds, StopReason } from './stop-reason.ts'

/**
 * How one projection fares in this process: written by its projector, read by routes, readiness and
 * metrics. Counts are since the process started.
 */
export type ProjectionStatus = {
  readonly projection: string
  readonly topic: string
  readonly groupId: string
  /** Only other processes run it. */
  elsewhere: boolean
  /** Undefined until the group was joined; later, the partitions that are this process's. */
  assigned: readonly number[] | undefined
  readonly stopped: Map<number, StopReason>
  /** Of stopped partitions: what their repair waits for, or how far it is, as a sentence. */
  readonly repairs: Map<number, string>
  /** The log as last seen, by partition; empty until Kafka was asked. */
  log: ReadonlyMap<number, LogBounds>
  /** What is not applied yet, of assigned partitions, as of the same look at the log. */
  lags: ReadonlyMap<number, PartitionLag>
  /** What the projector waits for, as the end of "waits: ...". */
  trouble: string | undefined
  /** Monotonic milliseconds of the last answer from Kafka. */
  aliveAtMs: number
  applied: number
  duplicates: number
  heartbeats: number
  /** Events that were not applied, because their account was in quarantine. */
  held: number
  /** Times that a partition stopped, and that one was repaired, by reason. */
  readonly stops: Map<StopReason['code'], number>
  readonly repaired: Map<StopReason['code'], number>
  quarantine: QuarantineStatus
}

/** Of one partition: events, and the most seconds that the oldest of them can be old. */
export type PartitionLag = { events: number; seconds: number | null }

type QuarantineStatus = {
  /** Accounts in it, of all processes, as last counted; undefined until then. */
  accounts: number | undefined
  /** Since the process started: accounts that came into it, by reason; and what became of them. */
  readonly entered: Map<string, number>
  repaired: number
  /** Of those repaired, the ones whose history was replaced by the feed's. */
  restored: number
  /** What keeps the repair from working, as a sentence. */
  trouble: string | undefined
}

export const accountTopic = topicOf('account')
/** The topic of latest states, and the name of what keeps it up. */
export const accountState = 'account-state'

/** A projection of account events, in a consumer group of its own. */
export function newStatus(
  projection: string,
  { topic, groupId }: { topic: string; groupId: string } = {
    topic: accountTopic,
    groupId: `sluice-${projection}`,
  },
): ProjectionStatus {
  return {
    projection,
    topic,
    groupId,
    elsewhere: false,
    assigned: undefined,
    stopped: new Map(),
    repairs: new Map(),
    log: new Map(),
    lags: new Map(),
    trouble: undefined,
    aliveAtMs: performance.now(),
    applied: 0,
    duplicates: 0,
    heartbeats: 0,
    held: 0,
    stops: new Map(),
    repaired: new Map(),
    quarantine: {
      accounts: undefined,
      entered: new Map(),
      repaired: 0,
      restored: 0,
      trouble: undefined,
    },
  }
}
