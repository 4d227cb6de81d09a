import { partitionOf } from 'kafka/partition'
import type { Pool } from 'pg'
import { pause } from 'service/backoff'
import type { Log } from 'service/log'
import type { Projection } from '../projection.ts'
import type { ProjectionStatus } from '../status.ts'
import { lockEntries, type NewEntry, putEntries } from './entries.ts'
import { type Feed, FeedUnavailable } from './feed.ts'
import { compareHeads } from './heads-walk.ts'
import { entryOfVerdict, judge, type Judged, type Suspect } from './suspects.ts'

// The version guard sees a lost event by the next one. Of a lost last event it sees nothing, and so
// the heads of all accounts are compared with the feed's now and then, those of accounts that the feed
// does not know among them. An account is judged by the second look that finds it different, and only
// once its partition has come through everything that was written before the first: a heartbeat from
// after that moment proves it.

export type SweepSettings = {
  pool: Pool
  projection: Projection
  feed: Feed
  status: ProjectionStatus
  signal: AbortSignal
  log: Log
  everyMs: number
  /** 0: none are written, and an empty backlog has to do as proof. */
  heartbeatSeconds: number
  /** Told after accounts came into quarantine. */
  onQuarantined: (entries: readonly NewEntry[], partition: number) => void
  nowMs?: () => number
}

/** Beyond this many differing accounts the rest is left to later sweeps. */
const suspectLimit = 10_000
/** By how much the clocks of two machines may differ. */
const clockToleranceMs = 5_000
/** Between pages it rests this many times as long as the page took: the feed has other work, too. */
const restFactor = 4

/** Sweeps until the signal aborts. Never throws: what it meets is logged. */
export async function runSweeps(settings: SweepSettings): Promise<void> {
  const { signal, everyMs, log, status } = settings
  let suspects: ReadonlyMap<string, Suspect> = new Map()
  for (;;) {
    await pause(everyMs * (0.75 + Math.random() / 2), signal)
    if (signal.aborted) return
    try {
      suspects = await sweep(settings, suspects)
    } catch (error) {
      if (signal.aborted) return
      const level = error instanceof FeedUnavailable ? 'warn' : 'error'
      log[level](
        { event: 'sweep_failed', projection: status.projection, err: error },
        'the accounts could not be compared with the feed',
      )
    }
  }
}

/** One look at all accounts of this process's partitions. Gives who is suspect now. */
async function sweep(
  settings: SweepSettings,
  before: ReadonlyMap<string, Suspect>,
): Promise<ReadonlyMap<string, Suspect>> {
  const { signal, nowMs = Date.now } = settings
  const suspects = new Map<string, Suspect>()
  const mayJudge = await judgesOf(settings)
  let begunMs = performance.now()
  for await (const page of compareHeads(settings)) {
    const guilty: Guilty[] = []
    for (const { fed, head } of page) {
      const partition = partitionOf(fed.account, settings.status.log.size)
      const judgePartition = mayJudge.get(partition)
      if (judgePartition === undefined) continue
      const options = { before: before.get(fed.account), nowMs: nowMs(), mayJudge: judgePartition }
      const { suspect, verdict } = judge(fed, head, options)
      if (verdict !== undefined) guilty.push({ fed, head, verdict, partition })
      if (suspect !== undefined && suspects.size < suspectLimit) suspects.set(fed.account, suspect)
    }
    await quarantineGuilty(settings, guilty)
    await pause((performance.now() - begunMs) * restFactor, signal)
    if (signal.aborted) break
    begunMs = performance.now()
  }
  return suspects
}

/**
 * For each partition that can be judged here: whether all that was written before a moment has come
 * through it.
 */
async function judgesOf({
  pool,
  status,
  heartbeatSeconds,
}: SweepSettings): Promise<Map<number, (sinceMs: number) => boolean>> {
  const { rows } = await pool.query<{ partition: number; occurred_at: Date }>(
    'select partition, occurred_at from read.heartbeats where projection = $1',
    [status.projection],
  )
  const beats = new Map(rows.map((row) => [row.partition, row.occurred_at.getTime()]))
  const judges = new Map<number, (sinceMs: number) => boolean>()
  for (const partition of status.assigned ?? []) {
    if (status.stopped.has(partition) || !status.log.has(partition)) continue
    const idle = status.lags.get(partition)?.events === 0
    const beatMs = beats.get(partition) ?? 0
    judges.set(partition, (sinceMs) =>
      heartbeatSeconds === 0 ? idle : beatMs > sinceMs + clockToleranceMs,
    )
  }
  return judges
}

type Guilty = Judged & { partition: number }

async function quarantineGuilty(
  { pool, projection, status, onQuarantined }: SweepSettings,
  guilty: readonly Guilty[],
): Promise<void> {
  if (guilty.length === 0) return
  const accounts = guilty.map(({ fed }) => fed.account)
  const known = await lockEntries(pool, projection.name, accounts)
  const byPartition = Map.groupBy(
    guilty.filter(({ fed }) => !known.has(fed.account)),
    ({ partition }) => partition,
  )
  for (const [partition, found] of byPartition) {
    const entries = found.map(entryOfVerdict)
    const place = { projection: projection.name, topic: status.topic, partition }
    await putEntries(pool, place, entries)
    onQuarantined(entries, partition)
  }
}
