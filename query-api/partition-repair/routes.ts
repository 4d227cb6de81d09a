import type { Pool } from 'pg'
import { requireOperator } from 'service/access'
import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import { problem } from '../problems.ts'
import type { Projection } from '../projection.ts'
import type { Repairer } from '../quarantine/repairer.ts'
import { givenReason } from '../quarantine/routes.ts'
import { orUnavailable } from '../reading.ts'
import type { ProjectionStatus } from '../status.ts'
import { inTransaction } from '../transaction.ts'
import { feedNeeded } from './repairs.ts'
import { askForRepair } from './stops.ts'

type PartitionRoutesSettings = {
  /** Of the role sluice_projector. */
  pool: Pool
  statuses: readonly ProjectionStatus[]
  repairers: readonly { projection: Projection; repairer: Repairer }[]
}

const deadlineMs = 10_000

const params = z.strictObject({
  name: z.string(),
  partition: z
    .string()
    .regex(/^(0|[1-9]\d{0,4})$/, 'must be the number of a partition')
    .transform(Number),
})
const body = z.strictObject({ reason: givenReason })

export function partitionRoutes(settings: PartitionRoutesSettings): Route[] {
  return [
    {
      method: 'POST',
      path: '/projections/:name/partitions/:partition/repair',
      handle: (request) => orUnavailable(() => repair(settings, request)),
    },
  ]
}

/**
 * Says that a stopped partition's log, as it was found, is ours: whichever process has the partition
 * then repairs it from the feed.
 */
async function repair(settings: PartitionRoutesSettings, request: ApiRequest): Promise<ApiAnswer> {
  requireOperator(request)
  const { name, partition } = parsePart(params, request.params, 'path')
  const { reason } = parsePart(body, request.body)
  const status = settings.statuses.find(({ projection }) => projection === name)
  const job = settings.repairers.find(({ projection }) => projection.name === name)
  if (status === undefined || job === undefined) {
    throw problem('projection_not_found', { detail: name })
  }
  if (job.repairer.feed === undefined) throw problem('feed_missing', { detail: feedNeeded })
  const { name: caller, role } = request.caller
  const code = await inTransaction(settings.pool, deadlineMs, async (transaction) => {
    const place = { projection: name, topic: status.topic, partition }
    const asked = await askForRepair(transaction, place)
    if (asked === undefined) throw problem('partition_not_stopped', { detail: String(partition) })
    const { before, after } = asked
    await transaction.query(
      `insert into read.audit (caller, role, action, projection, partition, reason, before, after)
        values ($1, $2, 'partition_repair', $3, $4, $5, $6, $7)`,
      [caller, role, name, partition, reason, before, after],
    )
    return asked.code
  })
  return { status: 202, body: { partition, code } }
}
