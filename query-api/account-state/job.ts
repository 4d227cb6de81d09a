import type { Pool } from 'pg'
import type { Log } from 'service/log'
import { ensureOffsets, noteHeartbeat, saveOffset } from '../offsets.ts'
import { accountState, newStatus, type ProjectionStatus } from '../status.ts'
import { inTransaction } from '../transaction.ts'
import { runAccountState, type Written } from './builder.ts'
import { storedTombstones } from './tombstones.ts'

const deadlineMs = 30_000

type AccountStateJob = { status: ProjectionStatus; run(): Promise<void> }

type JobSettings = {
  running: boolean
  /** Of the role sluice_projector. */
  pool: Pool
  brokers: readonly string[]
  signal: AbortSignal
  log: Log
}

/** The topic `account-state`, kept up by this process or by others. */
export function openAccountState({ running, pool, ...shared }: JobSettings): AccountStateJob {
  const status = newStatus(accountState)
  status.elsewhere = !running
  const run = () =>
    runAccountState({
      ...shared,
      status,
      topic: accountState,
      tombstones: storedTombstones(pool),
      onWritten: (written) => noteProgress(pool, status, written),
    })
  return { status, run: async () => (running ? run() : undefined) }
}

/** For `/projections` and `/readyz` alone: where it goes on is what Kafka has committed. */
async function noteProgress(
  pool: Pool,
  { projection, topic }: ProjectionStatus,
  { partition, next, topicId, throughAt, heartbeatAt }: Written,
): Promise<void> {
  const place = { projection, topic, partition }
  await inTransaction(pool, deadlineMs, async (transaction) => {
    await ensureOffsets(transaction, { projection, topic, topicId }, [partition])
    saveOffset(transaction, place, { next, throughAt })
    if (heartbeatAt !== undefined) noteHeartbeat(transaction, place, heartbeatAt)
  })
}
