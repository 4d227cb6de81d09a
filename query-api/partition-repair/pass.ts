import { partitionOf } from 'kafka/partition'
import type { Pool } from 'pg'
import { lockOffset, type Place } from '../offsets.ts'
import type { Projection } from '../projection.ts'
import { lockEntries, type NewEntry, putEntries } from '../quarantine/entries.ts'
import type { Feed } from '../quarantine/feed.ts'
import { compareHeads, type ComparedHead } from '../quarantine/heads-walk.ts'
import { differenceOf, entryOfVerdict, verdictOf } from '../quarantine/suspects.ts'
import type { ProjectionStatus } from '../status.ts'
import type { LogBounds } from '../stop-reason.ts'
import { inTransaction, type Transaction } from '../transaction.ts'
import { endStop, type Stop } from './stops.ts'

// Partitions whose log cannot be gone on from are brought up to the feed. Invariants:
// 1. A partition goes on at the end of its log as it was before the feed was first asked. What lies
//    below was committed on the write side before it was published, so the feed knows it, whatever
//    has become of the log; what comes at or above it is consumed. Nothing in the log is relied upon.
// 2. Every account of the partition that is not as the feed has it comes into quarantine, with the
//    feed's version as the highest seen. So it is brought up by the repair that there is, or named
//    for as long as that cannot be; and its partition does not wait for it.
// 3. Each transaction locks the offset's row and requires it to stand where it stopped. A second
//    owner, or the first one awake again, changes nothing; and a crash leaves the partition stopped,
//    to be compared from the beginning.

export type PassSettings = {
  pool: Pool
  projection: Projection
  status: ProjectionStatus
  feed: Feed
  signal: AbortSignal
  /** One attempt to bring an account up to the feed. */
  repairAccount: (account: string) => Promise<unknown>
  onQuarantined: (entries: readonly NewEntry[], partition: number) => void
  onCompared?: (partition: number, progress: Progress) => void
}

/** Accounts of a partition: so many compared, and of those so many not as the feed has them. */
export type Progress = { compared: number; differing: number }

/** A partition that may go on from `start`. */
export type Repaired = Progress & { stop: Stop; start: bigint }

const deadlineMs = 30_000

/**
 * Repairs these partitions, of the topic that each was found with; `bounds` is its log, looked at
 * after the stops were read. Gives those that may go on; of the others somebody else took care.
 * Throws FeedUnavailable, and what Postgres throws when it is away.
 */
export async function repairPartitions(
  settings: PassSettings,
  bounds: ReadonlyMap<number, LogBounds>,
  stops: readonly Stop[],
): Promise<Repaired[]> {
  const open = new Map(
    stops.map((stop): [number, Repaired] => {
      const start = bounds.get(stop.partition)?.high ?? 0n
      return [stop.partition, { stop, start, compared: 0, differing: 0 }]
    }),
  )
  for await (const page of compareHeads(settings)) {
    const heads = Map.groupBy(page, ({ fed }) => partitionOf(fed.account, bounds.size))
    for (const [partition, repaired] of open) {
      const own = heads.get(partition) ?? []
      const differing = await quarantineDiffering(settings, repaired.stop, own)
      if (differing === undefined) {
        open.delete(partition)
        continue
      }
      repaired.compared += own.length
      repaired.differing += differing.length
      settings.onCompared?.(partition, repaired)
      // Now, so that no more than a page of them waits at one time.
      for (const { account } of differing) {
        settings.signal.throwIfAborted()
        await settings.repairAccount(account)
      }
    }
    if (open.size === 0) break
  }
  const done: Repaired[] = []
  for (const repaired of open.values()) {
    if (await goOn(settings, repaired)) done.push(repaired)
  }
  return done
}

const placeOf = ({ status }: PassSettings, { partition }: Stop): Place => ({
  projection: status.projection,
  topic: status.topic,
  partition,
})

/** Runs `work` while nothing of the partition can be applied; undefined where it stands elsewhere. */
function whileStopped<T>(
  settings: PassSettings,
  stop: Stop,
  work: (transaction: Transaction, place: Place) => Promise<T>,
): Promise<T | undefined> {
  const place = placeOf(settings, stop)
  return inTransaction(settings.pool, deadlineMs, async (transaction) => {
    const stored = await lockOffset(transaction, place, stop.topicId)
    if (stored.topicId !== stop.topicId || stored.next !== stop.next) return undefined
    return work(transaction, place)
  })
}

/** Those of a partition's accounts that are not as the feed has them. */
async function quarantineDiffering(
  settings: PassSettings,
  stop: Stop,
  heads: readonly ComparedHead[],
): Promise<readonly NewEntry[] | undefined> {
  const { projection, onQuarantined } = settings
  const suspects: ComparedHead[] = []
  for (const each of heads) if (await isSuspect(settings, each)) suspects.push(each)
  if (suspects.length === 0) return []
  const accounts = suspects.map(({ fed }) => fed.account)
  const outcome = await whileStopped(settings, stop, async (transaction, place) => {
    const known = await lockEntries(transaction, projection.name, accounts)
    // Once more: a repair that was under way may have brought some of them up, or further.
    const now = await projection.heads(transaction, accounts)
    const entries = suspects.flatMap(({ fed, head: before }) => {
      const head = now.get(fed.account)
      const kind = differenceOf(fed, head)
      if (kind === undefined || (kind === 'ahead' && head!.version > (before?.version ?? 0)))
        return []
      return [entryOfVerdict({ fed, head, verdict: verdictOf(kind) })]
    })
    // Of those that are in quarantine already, too: they must not leave it below the feed's version.
    await putEntries(transaction, place, entries)
    return { entries, entered: entries.filter(({ account }) => !known.has(account)) }
  })
  if (outcome === undefined) return undefined
  onQuarantined(outcome.entered, stop.partition)
  return outcome.entries
}

/** Who is ahead of the feed as it was asked need not be ahead of it: then it has that event by now. */
async function isSuspect(
  { feed, signal }: PassSettings,
  { fed, head }: ComparedHead,
): Promise<boolean> {
  const kind = differenceOf(fed, head)
  if (kind !== 'ahead' || head === undefined) return kind !== undefined
  const { events } = await feed.accountEvents(fed.account, head.version, signal)
  return events[0]?.id !== head.lastEventId
}

async function goOn(settings: PassSettings, { stop, start }: Repaired): Promise<boolean> {
  const next = { topicId: stop.foundTopicId, next: start }
  const gone = await whileStopped(settings, stop, async (transaction, place) => {
    await endStop(transaction, place, next)
    return true
  })
  return gone === true
}
