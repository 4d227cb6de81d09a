import type { Pool, PoolClient } from 'migrations/database'
import type { RunCoordinator } from 'node-cron'

// Of all relays that are due at the same minute, the database elects one: whoever gets an advisory
// lock, held by an open transaction for as long as the run lasts. The lock is the transaction's, not
// the session's, so that a pooler in between cannot keep it or give it to another; the server gives it
// up with the connection of a relay that died, and after `idle_in_transaction_session_timeout` with
// that of one that is frozen or cut off, which notices before its next step. No clock of ours decides.
//
// The transaction touches no table: no detach and no snapshot waits for it.

/** Any number that nothing else locks in this database. */
const lock = 7_588_413_201

export class Election implements RunCoordinator {
  readonly #pool: Pool
  #elected: PoolClient | undefined

  constructor(pool: Pool) {
    this.#pool = pool
  }

  /** Whether this process may run now. Rejects when the database is away. */
  async shouldRun(): Promise<boolean> {
    const client = await this.#pool.connect()
    try {
      await client.query('begin')
      const { rows } = await client.query<{ elected: boolean }>(
        'select pg_try_advisory_xact_lock($1) as elected',
        [lock],
      )
      if (rows[0]?.elected === true) {
        this.#elected = client
        return true
      }
    } catch (error) {
      client.release(true)
      throw error
    }
    await end(client)
    return false
  }

  /** Rejects when the lock is another's by now. Also keeps the transaction from being idle too long. */
  async assertElected(): Promise<void> {
    if (this.#elected === undefined) throw new Error('maintenance was not elected to run')
    await this.#elected.query('select 1')
  }

  async onComplete(): Promise<void> {
    const client = this.#elected
    this.#elected = undefined
    if (client !== undefined) await end(client)
  }
}

/** A connection that does not answer is closed instead: the lock goes with it. */
async function end(client: PoolClient): Promise<void> {
  try {
    await client.query('rollback')
    client.release()
  } catch {
    client.release(true)
  }
}
