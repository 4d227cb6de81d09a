// What the projections' tables say, in a form that two databases can be compared by, and what they
// have to say: the fold of the events.
import type { Pool } from 'pg'
import type { Projection, ProjectedEvent } from './projection.ts'
import { type Queryable, Transaction } from './transaction.ts'

/** Everything but how far the pipe is and what is wrong with it. */
const notOfProjections = [
  'offsets',
  'heartbeats',
  'quarantine',
  'stopped_partitions',
  'audit',
  'account_state_tombstones',
]

type View = {
  /** Each row of each table as text, the table's name first; sorted. */
  rows: string[]
  /** The tables of tallies, each with the events counted; 0 where it counts none. */
  events: ReadonlyMap<string, number>
}

type Column = { table: string; name: string; isKey: boolean; isNumber: boolean; isOwn: boolean }

/**
 * Left out is what Postgres puts into a row by itself (clocks, serial numbers), and how tallies are
 * spread: they are summed over their slots, and what is nothing is not there. Which event a tally
 * was told of last depends on the batches, so times and counts of events are those of the table.
 */
async function viewOf(database: Queryable): Promise<View> {
  const { rows: columns } = await database.query<Column>(
    `select c.relname as table, a.attname as name, coalesce(a.attnum = any(i.indkey), false) as "isKey",
        a.atttypid in ('bigint'::regtype, 'numeric'::regtype) as "isNumber",
        a.attidentity <> '' or coalesce(pg_get_expr(d.adbin, d.adrelid) ~ '(clock_timestamp|now)\\(', false)
          as "isOwn"
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
      left join pg_index i on i.indrelid = c.oid and i.indisprimary
      where c.relnamespace = 'read'::regnamespace and c.relkind = 'r' and c.relname <> all($1)
      order by c.relname, a.attnum`,
    [notOfProjections],
  )
  const tables = [...Map.groupBy(columns, ({ table }) => table)]
  const { rows } = await database.query<{ said: string; events: string | null }>(
    tables.flatMap(([table, own]) => statementsOn(table, own)).join(' union all '),
  )
  return {
    rows: numbered(rows.flatMap(({ said, events }) => (events === null ? said : [])).toSorted()),
    events: new Map(
      rows.flatMap(({ said, events }) => (events === null ? [] : [[said, Number(events)]])),
    ),
  }
}

/** Rows that are the same but for what Postgres put into them are as many as they are. */
function numbered(rows: readonly string[]): string[] {
  const counts = new Map<string, number>()
  return rows.map((row) => {
    const count = (counts.get(row) ?? 0) + 1
    counts.set(row, count)
    return count === 1 ? row : `${row} (${count})`
  })
}

function statementsOn(table: string, columns: readonly Column[]): string[] {
  const isTally = columns.some(({ name }) => name === 'slot')
  if (!isTally) {
    const own = columns.filter(({ isOwn }) => isOwn).map(({ name }) => `'${name}'`)
    const said = `'${table} ' || (to_jsonb(t) - array[${own.join(', ')}]::text[])::text`
    return [`select ${said} as said, null as events from read.${table} t`]
  }
  const keys = columns.filter(({ name, isKey }) => isKey && name !== 'slot').map(({ name }) => name)
  const sums = columns
    .filter(({ name, isNumber, isKey }) => isNumber && !isKey && name !== 'events')
    .map(({ name }) => name)
  const totals = sums.map((name) => `sum(${name}) as ${name}`)
  const counted = columns.some(({ name }) => name === 'events')
    ? 'coalesce(sum(events), 0)::text'
    : `'0'`
  const isThere = sums.map((name) => `${name} <> 0`).join(' or ')
  return [
    `select '${table} ' || to_jsonb(t)::text, null from (select ${[...keys, ...totals].join(', ')}
      from read.${table} group by ${keys.join(', ')}) t where ${isThere}`,
    `select '${table} as of ' || max(as_of), null from read.${table} having max(as_of) is not null`,
    `select '${table}', ${counted} from read.${table}`,
  ]
}

/**
 * What these events make of these projections: each once, one at a time, in their order, with
 * nothing before them. `pool` is of a database that stays empty.
 */
async function foldOf(
  pool: Pool,
  told: ReadonlyMap<Projection, readonly ProjectedEvent[]>,
): Promise<View> {
  const client = await pool.connect()
  try {
    await client.query('begin')
    const transaction = new Transaction(client)
    for (const [projection, events] of told) {
      for (const event of events) await projection.apply(transaction, [event], 'log')
    }
    await transaction.settle()
    return await viewOf(transaction)
  } finally {
    await client.query('rollback')
    client.release()
  }
}

/**
 * The rows that one has and not the other. Of accounts that were repaired nobody is told anything,
 * neither what the log did not bring nor that it brought something else. Where another history was
 * replaced its events stay counted, and rows that are of no account, such as words, stay.
 */
function differences(view: View, fold: View, repaired: ReadonlySet<string>): string[] {
  const accountIn = (row: string) => /"account_id": "([^"]*)"/.exec(row)?.[1]
  const isTold = (row: string) =>
    row.startsWith('notifications ') && repaired.has(accountIn(row) ?? '')
  const mayStay = (row: string) =>
    repaired.size > 0 && !namesAccount(row) && !fold.events.has(row.slice(0, row.indexOf(' ')))
  const [seen, wanted] = [new Set(view.rows), new Set(fold.rows)]
  const events = [...fold.events].filter(([table, count]) => {
    const counted = view.events.get(table) ?? 0
    return repaired.size > 0 ? counted < count : counted !== count
  })
  return [
    ...fold.rows.filter((row) => !seen.has(row) && !isTold(row)).map((row) => `missing: ${row}`),
    ...view.rows
      .filter((row) => !wanted.has(row) && !isTold(row) && !mayStay(row))
      .map((row) => `not of these events: ${row}`),
    ...events.map(
      ([table, count]) => `${table} counts ${view.events.get(table)} of ${count} events`,
    ),
  ]
}

const namesAccount = (row: string) => row.includes('"story-')

type Look = {
  /** Accounts that a projection waits for. */
  named: string[]
  /** Accounts that are not as far as the events go, and that nobody names. */
  unnamed: string[]
  /** How the view differs from the fold of the events, each account's as far as it is. */
  wrong: string[]
}

/** Every event has had its effect once, and nothing is waited for. */
export const allIsWell: Look = { named: [], unnamed: [], wrong: [] }

/** `emptyPool` is of a database that stays empty. */
type LookSettings = { pool: Pool; emptyPool: Pool; projections: readonly Projection[] }

/** Looks at what the projections say once `events`, each account's in their order, have happened. */
export function openLooks({ pool, emptyPool, projections }: LookSettings) {
  const folds = new Map<string, Promise<View>>()

  async function headsNow(): Promise<Heads> {
    const heads: Heads = new Map()
    for (const projection of projections) {
      const found = await projection.headsAfter(pool, '', 10_000)
      heads.set(projection, new Map([...found].map(([id, { version }]) => [id, version])))
    }
    return heads
  }

  async function namedNow(): Promise<string[]> {
    const { rows } = await pool.query<{ who: string }>(
      `select projection || ' ' || account_id as who from read.quarantine
        where projection = any($1)`,
      [projections.map(({ name }) => name)],
    )
    return rows.map(({ who }) => who).toSorted()
  }

  function foldUpTo(heads: Heads, events: readonly ProjectedEvent[]): Promise<View> {
    const told = new Map(
      [...heads].map(([projection, versions]) => [
        projection,
        events.filter(({ account, version }) => version <= (versions.get(account) ?? 0)),
      ]),
    )
    const key = [...told.values()].map((own) => own.map(({ id }) => id).join()).join('/')
    const fold = folds.get(key) ?? foldOf(emptyPool, told)
    folds.set(key, fold)
    fold.catch(() => folds.delete(key))
    return fold
  }

  return {
    /** Of all of these events. */
    fold(events: readonly ProjectedEvent[]): Promise<View> {
      const everything = new Map(events.map(({ account }) => [account, Infinity]))
      return foldUpTo(new Map(projections.map((each) => [each, everything])), events)
    },
    /** Whether every account is where the events end, and none is waited for. */
    async isThrough(events: readonly ProjectedEvent[]): Promise<boolean> {
      const waits = behind(await headsNow(), events)
      return waits.length === 0 && (await namedNow()).length === 0
    },
    /** With nothing going on: it takes more than one moment. */
    async look(
      events: readonly ProjectedEvent[],
      repaired: ReadonlySet<string> = new Set(),
    ): Promise<Look> {
      const heads = await headsNow()
      const named = await namedNow()
      return {
        named,
        unnamed: behind(heads, events).filter((who) => !named.includes(who)),
        wrong: differences(await viewOf(pool), await foldUpTo(heads, events), repaired),
      }
    },
  }
}

type Heads = Map<Projection, ReadonlyMap<string, number>>

function behind(heads: Heads, events: readonly ProjectedEvent[]): string[] {
  const last = new Map(events.map(({ account, version }) => [account, version]))
  return [...heads].flatMap(([{ name }, versions]) =>
    [...last]
      .filter(([account, version]) => versions.get(account) !== version)
      .map(([account]) => `${name} ${account}`),
  )
}
