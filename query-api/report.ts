import { type Kysely, sql } from 'kysely'
import type { ReadDatabase } from 'migrations/read'
import { orAborted } from 'service/backoff'
import type { Route } from 'service/route'
import type { LogLook } from './log-look.ts'
import { lagSeconds } from './offsets.ts'
import { orUnavailable } from './reading.ts'
import type { ProjectionStatus } from './status.ts'

export type ReportSettings = {
  /** Of the role sluice_query. */
  database: Kysely<ReadDatabase>
  /** Of every projection, whether this process runs it or not. */
  statuses: readonly ProjectionStatus[]
  /** Asked for what no projector of this process looks at. */
  lookAtLog: () => Promise<LogLook>
}

const lookLimitMs = 2_000

/** `GET /projections`: how far each projection is, and why it is no further. */
export function projectionRoutes({ database, statuses, lookAtLog }: ReportSettings): Route[] {
  return [
    {
      method: 'GET',
      path: '/projections',
      handle: () =>
        orUnavailable(async () => {
          const unseen = statuses.some(({ elsewhere }) => elsewhere)
          const [stored, log] = await Promise.all([
            storedOf(database),
            unseen ? logOf(lookAtLog) : new Map<never, never>(),
          ])
          const items = statuses.map((status) =>
            reportOf(status.elsewhere ? { ...status, log } : status, stored),
          )
          return { status: 200, body: { items } }
        }),
    },
  ]
}

/** Nothing, when Kafka does not answer soon: the rest can be said without it. */
async function logOf(lookAtLog: () => Promise<LogLook>): Promise<LogLook['bounds']> {
  try {
    return (await orAborted(lookAtLog(), AbortSignal.timeout(lookLimitMs))).bounds
  } catch {
    return new Map()
  }
}

function reportOf(status: ProjectionStatus, stored: Stored) {
  const { projection } = status
  const offsets = stored.offsets.filter((row) => row.projection === projection)
  const numbers = new Set([...offsets.map(({ partition }) => partition), ...status.log.keys()])
  const partitions = [...numbers]
    .toSorted((one, other) => one - other)
    .map((partition) => partitionReport(status, { partition, stored }))
  return {
    name: projection,
    topic: status.topic,
    group: status.groupId,
    state: stateOf(status),
    waitsFor: status.trouble ?? null,
    // Unknown as a whole while it is of one partition.
    lag: together(partitions, ({ lag }) => lag)?.reduce((sum, lag) => sum + lag, 0) ?? null,
    lagSeconds: together(partitions, (each) => each.lagSeconds)?.reduce(max) ?? null,
    applied: status.applied,
    duplicates: status.duplicates,
    held: status.held,
    quarantined: Number(stored.quarantined.get(projection) ?? 0),
    repaired: status.quarantine.repaired,
    restored: status.quarantine.restored,
    /** What keeps accounts in quarantine from being repaired, or would. */
    repairTrouble: status.quarantine.trouble ?? null,
    partitions,
  }
}

const max = (one: number, other: number) => Math.max(one, other)

/** What every partition says; undefined where one does not know, or there is none. */
function together<Item>(
  items: readonly Item[],
  ask: (item: Item) => number | null,
): number[] | undefined {
  const said = items.map(ask).filter((value) => value !== null)
  return said.length === items.length && said.length > 0 ? said : undefined
}

type State = 'starting' | 'running' | 'waiting' | 'stopped' | 'elsewhere'

function stateOf(status: ProjectionStatus): State {
  if (status.elsewhere) return 'elsewhere'
  if (status.stopped.size > 0) return 'stopped'
  if (status.assigned === undefined) return 'starting'
  return status.trouble === undefined ? 'running' : 'waiting'
}

function partitionReport(
  status: ProjectionStatus,
  { partition, stored }: { partition: number; stored: Stored },
) {
  const isOwn = (row: { projection: string; partition: number }) =>
    row.projection === status.projection && row.partition === partition
  const offset = stored.offsets.find((row) => isOwn(row) && row.topic === status.topic)
  const next = offset === undefined ? undefined : BigInt(offset.next_offset)
  const log = status.log.get(partition)
  const reason = status.stopped.get(partition)
  const owned = status.assigned?.includes(partition) ?? false
  // The log was looked at a little earlier than the offset.
  const lag = log === undefined ? null : Math.max(0, Number(log.high - (next ?? log.low)))
  const heartbeat = stored.heartbeats.find(isOwn)
  return {
    partition,
    /** `elsewhere`: another process of the group has it, or nobody yet. */
    state: reason !== undefined ? 'stopped' : owned ? 'running' : 'elsewhere',
    next: next === undefined ? null : Number(next),
    high: log === undefined ? null : Number(log.high),
    lag,
    lagSeconds: lag === null ? null : rounded(lagSeconds(lag, offset?.through_seconds ?? null)),
    heartbeatAt: heartbeat?.occurred_at.toISOString() ?? null,
    reason:
      reason === undefined
        ? null
        : {
            ...reason,
            offset: Number(reason.offset),
            /** What its repair waits for, or how far it is. */
            repair: status.repairs.get(partition) ?? null,
          },
  }
}

const rounded = (seconds: number | null) => seconds && Math.round(seconds * 1_000) / 1_000

type Stored = Awaited<ReturnType<typeof storedOf>>

/** What the database says of all projections at once. */
async function storedOf(database: Kysely<ReadDatabase>) {
  const [offsets, heartbeats, entries] = await Promise.all([
    database
      .selectFrom('read.offsets')
      .select(['projection', 'topic', 'partition', 'next_offset'])
      .select(
        sql<number | null>`extract(epoch from clock_timestamp() - through_at)::float8`.as(
          'through_seconds',
        ),
      )
      .execute(),
    database
      .selectFrom('read.heartbeats')
      .select(['projection', 'partition', 'occurred_at'])
      .execute(),
    database
      .selectFrom('read.quarantine')
      .select(['projection', ({ fn }) => fn.countAll<string>().as('count')])
      .groupBy('projection')
      .execute(),
  ])
  const quarantined = new Map(entries.map(({ projection, count }) => [projection, count]))
  return { offsets, heartbeats, quarantined }
}
