import type { Kysely } from 'kysely'
import type { ReadDatabase } from 'migrations/read'
import type { Route } from 'service/route'
import { orUnavailable } from './routes.ts'
import type { ProjectionStatus } from './status.ts'

type Database = Kysely<ReadDatabase>

/** `GET /projections`: how far each projection is, and why it is no further. */
export function projectionRoutes(
  database: Database,
  statuses: readonly ProjectionStatus[],
): Route[] {
  return [
    {
      method: 'GET',
      path: '/projections',
      handle: () =>
        orUnavailable(async () => ({
          status: 200,
          body: { items: await Promise.all(statuses.map((each) => reportOf(database, each))) },
        })),
    },
  ]
}

async function reportOf(database: Database, status: ProjectionStatus) {
  const [offsets, heartbeats, quarantined] = await Promise.all([
    storedOffsets(database, status),
    heartbeatTimes(database, status.projection),
    quarantinedAccounts(database, status.projection),
  ])
  const numbers = new Set([...offsets.keys(), ...status.log.keys()])
  const partitions = [...numbers]
    .toSorted((one, other) => one - other)
    .map((partition) => partitionReport(status, { partition, offsets, heartbeats }))
  const lags = partitions.map(({ lag }) => lag)
  return {
    name: status.projection,
    topic: status.topic,
    group: status.groupId,
    state: stateOf(status),
    waitsFor: status.trouble ?? null,
    // Unknown as a whole while it is of one partition.
    lag:
      lags.includes(null) || lags.length === 0 ? null : lags.reduce((sum, lag) => sum! + lag!, 0),
    applied: status.applied,
    duplicates: status.duplicates,
    held: status.held,
    quarantined,
    repaired: status.quarantine.repaired,
    restored: status.quarantine.restored,
    /** What keeps accounts in quarantine from being repaired, or would. */
    repairTrouble: status.quarantine.trouble ?? null,
    partitions,
  }
}

function stateOf(status: ProjectionStatus): 'starting' | 'running' | 'waiting' | 'stopped' {
  if (status.stopped.size > 0) return 'stopped'
  if (status.assigned === undefined) return 'starting'
  return status.trouble === undefined ? 'running' : 'waiting'
}

type Stored = {
  partition: number
  offsets: ReadonlyMap<number, bigint>
  heartbeats: ReadonlyMap<number, Date>
}

function partitionReport(status: ProjectionStatus, { partition, offsets, heartbeats }: Stored) {
  const next = offsets.get(partition)
  const log = status.log.get(partition)
  const reason = status.stopped.get(partition)
  const owned = status.assigned?.includes(partition) ?? false
  return {
    partition,
    /** `elsewhere`: another process of the group has it, or nobody yet. */
    state: reason !== undefined ? 'stopped' : owned ? 'running' : 'elsewhere',
    next: next === undefined ? null : Number(next),
    high: log === undefined ? null : Number(log.high),
    // The log was looked at a little earlier than the offset.
    lag: log === undefined ? null : Math.max(0, Number(log.high - (next ?? log.low))),
    heartbeatAt: heartbeats.get(partition)?.toISOString() ?? null,
    reason: reason === undefined ? null : { ...reason, offset: Number(reason.offset) },
  }
}

async function storedOffsets(database: Database, { projection, topic }: ProjectionStatus) {
  const rows = await database
    .selectFrom('read.offsets')
    .select(['partition', 'next_offset'])
    .where('projection', '=', projection)
    .where('topic', '=', topic)
    .execute()
  return new Map(rows.map((row) => [row.partition, BigInt(row.next_offset)]))
}

async function quarantinedAccounts(database: Database, projection: string): Promise<number> {
  const row = await database
    .selectFrom('read.quarantine')
    .select(({ fn }) => fn.countAll<string>().as('count'))
    .where('projection', '=', projection)
    .executeTakeFirstOrThrow()
  return Number(row.count)
}

async function heartbeatTimes(database: Database, projection: string) {
  const rows = await database
    .selectFrom('read.heartbeats')
    .select(['partition', 'occurred_at'])
    .where('projection', '=', projection)
    .execute()
  return new Map(rows.map((row) => [row.partition, row.occurred_at]))
}
