import type { Route } from 'service/route'
import { readParkedCounts } from './parking-table.ts'
import type { RelayState } from './relay-state.ts'
import { readTableStatus } from './relay-table.ts'
import { readCourse } from './switch-table.ts'
import { orUnavailable } from './operator-requests.ts'
import type { PartitionWatch } from './retention/partition-status.ts'
import { type Queryable, queryText } from './text-query.ts'

/** The backlog is counted up to here: this many means "at least". */
export const backlogBound = 10_000

/**
 * `GET /relay`: mode, switching, leader, epoch, next, gaps, backlog, oldestUnpublishedMs, parked and
 * partitions from the tables, the same on every replica; source, waitingFor, slot, connector, lastBatch
 * and lastError are of the process that answers.
 */
export function relayRoute(db: Queryable, state: RelayState, watch: PartitionWatch): Route {
  return {
    method: 'GET',
    path: '/relay',
    async handle() {
      const tables = [
        readTableStatus(db, backlogBound),
        readCourse(db),
        readParkedCounts(db),
        watch.status(),
      ] as const
      const [status, { mode, switching }, parked, partitions] = await orUnavailable(
        Promise.all(tables),
      )
      const { source, waitingFor, slot, lastBatch, lastError } = state
      const connector = connectorStatus(state)
      const process = { source, waitingFor, slot, connector, lastBatch, lastError }
      return { status: 200, body: { ...status, mode, switching, parked, partitions, ...process } }
    },
  }
}

function connectorStatus({ connector }: RelayState) {
  if (connector === null) return null
  const { name, state, tasks, standsStill, passedMs } = connector
  const checkpointAgeMs = Math.round(performance.now() - passedMs)
  return { name, state, tasks, standsStill, checkpointAgeMs }
}

/**
 * Judges this process and its Postgres only: a standby is ready, and so is a leader without Kafka.
 * Partitions about to run out, or rows out of every relay's reach, are Postgres' matter too.
 */
export async function readiness(db: Queryable, watch: PartitionWatch): Promise<readonly string[]> {
  try {
    await queryText(db, { name: 'ready', text: 'select 1', values: [], timeoutMs: 2_000 })
    return await watch.problems()
  } catch (error) {
    return [`the write database does not answer: ${(error as Error).message}`]
  }
}
