import type { Pool, PoolClient } from 'pg'

/** A transaction took so long that its connection was cut: perhaps nobody is at the other end. */
class TransactionTimeout extends Error {
  readonly code = 'transaction_timeout'
}

/**
 * Runs `work` in a transaction and commits. Throws what it or Postgres throws, after which nothing
 * of it stays, except when the connection was lost at the commit itself: then it may have been
 * committed. After `deadlineMs` the connection is cut, since a half-open one answers nothing.
 */
export async function inTransaction<T>(
  pool: Pool,
  deadlineMs: number,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect()
  const timeout = Promise.withResolvers<never>()
  const message = `no answer within ${deadlineMs} ms`
  const timer = setTimeout(() => timeout.reject(new TransactionTimeout(message)), deadlineMs)
  try {
    const result = await Promise.race([commit(client, work), timeout.promise])
    client.release()
    return result
  } catch (error) {
    // Waited for, so that its locks are gone when the caller goes on; a connection that is lost, or
    // past its time, does not answer. Not put back: whatever state it is in, closing it ends that.
    await Promise.race([client.query('rollback'), timeout.promise]).catch(() => {})
    client.release(true)
    throw error
  } finally {
    clearTimeout(timer)
  }
}

async function commit<T>(client: PoolClient, work: (client: PoolClient) => Promise<T>): Promise<T> {
  await client.query('begin')
  const result = await work(client)
  await client.query('commit')
  return result
}
