import type { Head } from './guard.ts'
import type { ProjectedEvent } from './projection.ts'
import type { Queryable, Transaction } from './transaction.ts'

// How far a projection is with each account: a table with a row per account that says its version and
// the id of its last event. Written once for all of them; only constants of the code become SQL.

export type HeadsTable = {
  /** Whose it is: in names of statements, and in read.quarantine. */
  projection: string
  table: string
  /** The column with the account's id. */
  key: string
  /** Further columns, read as text with the head. */
  carried?: readonly string[]
}

type HeadRow = Record<'account' | 'version' | 'last_event_id', string> &
  Readonly<Record<string, string | null>>
/** A head with the further columns of its row. */
type CarriedHead = Head & { carried: Readonly<Record<string, string | null>> }

export type Heads = {
  /** In one order for everybody, so that two transactions wait for each other and never in a circle. */
  lock(transaction: Transaction, accounts: readonly string[]): Promise<Map<string, CarriedHead>>
  read(database: Queryable, accounts: readonly string[]): Promise<Map<string, CarriedHead>>
  /** As `headsAfter` of `Projection`. */
  after(database: Queryable, account: string, limit: number): Promise<Map<string, CarriedHead>>
  /** Moves an account past an event that is left out; false when it does not stand just before it. */
  pass(transaction: Transaction, event: PassedEvent): Promise<boolean>
  /** Removes the head, and gives what it was. */
  remove(transaction: Transaction, account: string): Promise<CarriedHead | undefined>
  /** As in `Projection`. */
  versions(database: Queryable, accounts: readonly string[]): Promise<Map<string, number>>
}

type PassedEvent = Pick<ProjectedEvent, 'account' | 'version' | 'id'>

export function headsIn({ projection, table, key, carried = [] }: HeadsTable): Heads {
  const columns = [
    `${key} as account`,
    'version',
    'last_event_id',
    ...carried.map((name) => `${name}::text as ${name}`),
  ].join(', ')
  const headOf = (row: HeadRow): CarriedHead => ({
    version: Number(row.version),
    lastEventId: row.last_event_id,
    carried: Object.fromEntries(carried.map((name) => [name, row[name] ?? null])),
  })
  const ask = async (database: Queryable, name: string, text: string, values: unknown[]) => {
    const { rows } = await database.query<HeadRow>({ name: `${projection}-${name}`, text, values })
    return new Map(rows.map((row) => [row.account, headOf(row)]))
  }
  const select = `select ${columns} from ${table} where ${key} = any($1)`
  return {
    lock: (transaction, accounts) =>
      ask(transaction, 'lock-heads', `${select} order by ${key} for update`, [accounts]),
    read: (database, accounts) => ask(database, 'read-heads', select, [accounts]),
    after: (database, account, limit) =>
      ask(
        database,
        'heads-after',
        `select ${columns} from ${table} where ${key} > $1 order by ${key} limit $2`,
        [account, limit],
      ),
    async pass(transaction, { account, version, id }) {
      const { rowCount } = await transaction.query(
        `update ${table} set version = $2, last_event_id = $3
          where ${key} = $1 and version = $2 - 1`,
        [account, version, id],
      )
      return rowCount === 1
    },
    async remove(transaction, account) {
      const text = `delete from ${table} where ${key} = $1 returning ${columns}`
      return (await ask(transaction, 'remove-head', text, [account])).get(account)
    },
    async versions(database, accounts) {
      const { rows } = await database.query<{ account: string; version: string }>({
        name: `${projection}-versions`,
        text: `select h.${key} as account,
            case q.code when 'version_conflict' then 0 else h.version end as version
          from ${table} h
          left join read.quarantine q on q.projection = $1 and q.account_id = h.${key}
          where h.${key} = any($2)`,
        values: [projection, accounts],
      })
      return new Map(rows.map(({ account, version }) => [account, Number(version)]))
    },
  }
}
