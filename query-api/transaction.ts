import type { ClientBase, Pool, QueryConfig, QueryResult, QueryResultRow } from 'pg'

/** A transaction took so long that its connection was cut: perhaps nobody is at the other end. */
class TransactionTimeout extends Error {
  readonly code = 'transaction_timeout'
}

/** What asks questions and needs no transaction: a pool will do. */
export type Queryable = Pick<Transaction, 'query'>

/**
 * A transaction at work. Statements run in the order they are given. Over a pool with `pipeline`
 * those that are sent cost no round trip: what becomes of them is seen at the commit, which fails
 * when one of them did.
 */
export class Transaction {
  readonly #client: ClientBase
  #sent: Promise<unknown>[] = []

  constructor(client: ClientBase) {
    this.#client = client
  }

  query<Row extends QueryResultRow>(
    statement: string | QueryConfig,
    values?: unknown[],
  ): Promise<QueryResult<Row>> {
    return this.#client.query<Row>(statement, values)
  }

  send(statement: QueryConfig): void {
    const outcome = this.#client.query(statement)
    outcome.catch(() => {}) // Thrown when it is settled.
    this.#sent.push(outcome)
  }

  /** Resolves once everything sent has succeeded. Throws what failed first. */
  async settle(): Promise<void> {
    const sent = this.#sent
    this.#sent = []
    await Promise.all(sent)
  }
}

/**
 * Runs `work` in a transaction and commits. Throws what it or Postgres throws, after which nothing
 * of it stays, except when the connection was lost at the commit itself: then it may have been
 * committed. After `deadlineMs` the connection is cut, since a half-open one answers nothing.
 */
export async function inTransaction<T>(
  pool: Pool,
  deadlineMs: number,
  work: (transaction: Transaction) => Promise<T>,
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

async function commit<T>(
  client: ClientBase,
  work: (transaction: Transaction) => Promise<T>,
): Promise<T> {
  const transaction = new Transaction(client)
  transaction.send({ text: 'begin' })
  try {
    const result = await work(transaction)
    // Behind a statement that failed it does nothing: Postgres answers it with a rollback.
    transaction.send({ text: 'commit' })
    return result
  } finally {
    // What was sent may be why the work failed: then that is thrown.
    await transaction.settle()
  }
}
