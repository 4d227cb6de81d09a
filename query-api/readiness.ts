import { type Kysely, sql } from 'kysely'
import type { ReadDatabase } from 'migrations/read'
import type { Readiness } from 'service/http'
import { lateStages, type StageUrls } from './stages.ts'
import type { ProjectionStatus } from './status.ts'

// Ready means: what is committed now will be readable here in seconds. A living process proves
// nothing of that; a heartbeat row that came through the whole pipe does.

const newestLimitSeconds = 10
const partitionLimitSeconds = 30
/** Of Kafka: its group hears of us every second. */
const silenceLimitMs = 10_000

type ReadinessSettings = {
  /** Of the role sluice_query. */
  database: Kysely<ReadDatabase>
  statuses: readonly ProjectionStatus[]
  /** How often command-api writes one; 0: not at all, and none is missed. */
  heartbeatSeconds: number
  /** The stages before Kafka; asked only when heartbeats are late. */
  stages: StageUrls
  now?: () => number
}

/** Seconds since the newest heartbeat of each partition, by the read database's clock. */
type HeartbeatAges = ReadonlyMap<number, number>

export function projectionReadiness(settings: ReadinessSettings): Readiness {
  const { database, statuses, heartbeatSeconds, now = () => performance.now() } = settings
  const startedMs = now()
  const own = statuses.filter(({ elsewhere }) => !elsewhere)
  return async () => {
    const ages = await heartbeatAges(database).catch(() => undefined)
    if (ages === undefined) return ['the read database does not answer']
    const upSeconds = (now() - startedMs) / 1_000
    const late = own.flatMap((status) => lateProjection(status, now()))
    const silent = judged(own, statuses, ages).flatMap((status) => {
      const seen = ages.get(status.projection) ?? new Map<number, number>()
      return lateHeartbeats(status, seen, { heartbeatSeconds, upSeconds })
    })
    return silent.length === 0 ? late : [...late, ...silent, ...(await lateStages(settings.stages))]
  }
}

/**
 * Whose heartbeats count: those of the projections that run here. A process that runs none only
 * answers, and so depends on all that any process has ever run.
 */
function judged(
  own: readonly ProjectionStatus[],
  statuses: readonly ProjectionStatus[],
  ages: ReadonlyMap<string, HeartbeatAges>,
): readonly ProjectionStatus[] {
  return own.length > 0 ? own : statuses.filter(({ projection }) => ages.has(projection))
}

/** What the projector itself says. */
export function lateProjection(status: ProjectionStatus, nowMs: number): string[] {
  const name = `projection ${status.projection}`
  const late = [...status.stopped].map(([partition, { detail }]) =>
    [`${name} stopped partition ${partition}: ${detail}`, status.repairs.get(partition) ?? []]
      .flat()
      .join('; '),
  )
  if (status.trouble !== undefined) late.push(`${name} waits: ${status.trouble}`)
  else if (nowMs - status.aliveAtMs > silenceLimitMs) {
    const seconds = Math.round((nowMs - status.aliveAtMs) / 1_000)
    late.push(`${name} has heard nothing from Kafka for ${seconds} s`)
  } else if (status.assigned === undefined) late.push(`${name} has not joined its group yet`)
  return late
}

/**
 * What the heartbeats say. They take turns over the partitions, one every `heartbeatSeconds`; beyond
 * one second the limits grow with it. A partition is given its limit from the process's start on.
 */
export function lateHeartbeats(
  { projection, log }: Pick<ProjectionStatus, 'projection' | 'log'>,
  ages: HeartbeatAges,
  { heartbeatSeconds, upSeconds }: { heartbeatSeconds: number; upSeconds: number },
): string[] {
  if (heartbeatSeconds === 0) return []
  const name = `projection ${projection}`
  const newest = Math.min(Infinity, ...ages.values())
  if (newest === Infinity) return [`${name} has not seen a heartbeat yet`]
  if (newest > newestLimitSeconds * heartbeatSeconds) {
    return [`${name} saw its newest heartbeat ${Math.round(newest)} s ago: nothing comes through`]
  }
  return [...new Set([...log.keys(), ...ages.keys()])].flatMap((partition) => {
    const age = ages.get(partition) ?? upSeconds
    if (Math.min(age, upSeconds) <= partitionLimitSeconds * heartbeatSeconds) return []
    return [`${name} saw no heartbeat in partition ${partition} for ${Math.round(age)} s`]
  })
}

async function heartbeatAges(
  database: Kysely<ReadDatabase>,
): Promise<Map<string, Map<number, number>>> {
  const rows = await database
    .selectFrom('read.heartbeats')
    .select([
      'projection',
      'partition',
      sql<number>`extract(epoch from clock_timestamp() - occurred_at)::float8`.as('age'),
    ])
    .execute()
  const ages = new Map<string, Map<number, number>>()
  for (const { projection, partition, age } of rows) {
    const own = ages.get(projection) ?? new Map<number, number>()
    ages.set(projection, own.set(partition, age))
  }
  return ages
}
