import { httpProblem } from 'service/problem'
import type { Route } from 'service/route'
import type { RelayState } from './relay-state.ts'
import { readTableStatus } from './relay-table.ts'
import type { PartitionWatch } from './retention/partition-status.ts'
import { type Queryable, queryText } from './text-query.ts'

/** The backlog is counted up to here: this many means "at least". */
export const backlogBound = 10_000

/**
 * `GET /relay`: mode, leader, epoch, next, gaps, backlog, oldestUnpublishedMs and partitions from the
 * tables, the same on every replica; source, waitingFor, slot, connector, lastBatch and lastError are of the
 * process that answers.
 */
export function relayRoute(db: Queryable, state: RelayState, watch: PartitionWatch): Route {
  return {
    method: 'GET',
    path: '/relay',
    async handle() {
      const read = Promise.all([readTableStatus(db, backlogBound), watch.status()])
      const [status, partitions] = await read.catch((cause: unknown) => {
        throw Object.assign(httpProblem('unavailable', { detail: 'the write database is away' }), {
          cause,
        })
      })
      const { source, waitingFor, slot, lastBatch, lastError } = state
      const connector = connectorStatus(state)
      const process = { source, waitingFor, slot, connector, lastBatch, lastError }
      return { status: 200, body: { ...status, partitions, ...process } }
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
