import type { Pool } from 'pg'

/**
 * Forced on every session: durable commits, no transaction that outlives its caller's patience, no
 * lock waited for without end.
 */
export const writeSessionSettings = {
  synchronous_commit: 'on',
  transaction_timeout: '10s',
  lock_timeout: '4s',
}

/** What keeps commands from being executed: PostgreSQL away, or a standby that takes no writes. */
export async function readiness(pool: Pool): Promise<string[]> {
  try {
    const { rows } = await pool.query<{ standby: boolean }>('select pg_is_in_recovery() as standby')
    return rows[0]?.standby === true ? ['the write database is a standby'] : []
  } catch (error) {
    return [`the write database does not answer: ${(error as Error).message}`]
  }
}
