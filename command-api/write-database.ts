import type { Pool } from 'pg'
import type { Executor } from './executor.ts'

/**
 * Forced on every session: durable commits, no transaction that outlives its caller's patience, no
 * lock waited for without end. And a plan that looks up each row by its index, whatever the
 * statistics say: made while the tables are new, it would otherwise read whole tables (the keys of
 * all commands ever, for each batch) until the server's next analysis, a minute and more away.
 */
export const writeSessionSettings = {
  synchronous_commit: 'on',
  transaction_timeout: '10s',
  lock_timeout: '4s',
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  enable_bitmapscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  jit: 'off',
}

/**
 * How long this side waits for a statement: longer than the server lets a transaction live, so that
 * only a connection that no longer carries anything meets it.
 */
export const writeQueryTimeoutMs = 11_000

const readinessTimeoutMs = 2_000
/** Half of a command's patience: whoever asks must hear of it before callers do. */
const lateMs = 2_500

/** What keeps commands from being executed: PostgreSQL away, or a standby, or lanes that hang. */
export async function readiness(pool: Pool, executor?: Executor): Promise<string[]> {
  const waitedMs = executor?.oldestMs ?? 0
  const hanging = `commands have waited ${Math.round(waitedMs)} ms for the write database`
  return [...(await databaseFaults(pool)), ...(waitedMs > lateMs ? [hanging] : [])]
}

async function databaseFaults(pool: Pool): Promise<string[]> {
  try {
    const text = 'select pg_is_in_recovery() as standby'
    // pg reads it; its types leave it out.
    const query = { text, query_timeout: readinessTimeoutMs }
    const { rows } = await pool.query<{ standby: boolean }>(query)
    return rows[0]?.standby === true ? ['the write database is a standby'] : []
  } catch (error) {
    return [`the write database does not answer: ${(error as Error).message}`]
  }
}
