import { Client } from 'pg'
import { afterAll, expect, test } from 'vitest'
import { eventRow } from '../test-events.ts'
import { accounts } from './accounts.ts'
import { readModels } from './table.ts'
import { openReadModel } from './test-read-model.ts'

// No question reads a whole table, nor a whole index. PostgreSQL counts what is read of each: what was
// really done, within functions, too, and not only what was planned.

const model = await openReadModel({
  projection: accounts,
  routes: (settings) => readModels.flatMap(({ routes }) => routes(settings)),
})
afterAll(() => model[Symbol.asyncDispose]())

const rows = 40_000
// Accounts that a filter keeps are the last ones by id, where no walk from the first comes by them.
await asSuperuser(async (client) => {
  await client.query(`
    insert into read.accounts
      select 'acc-' || lpad(n::text, 5, '0'), 'Owner ' || n % 1000,
        case when n > ${rows - 10} then 'CHF' when n % 2 = 0 then 'EUR' else 'USD' end, 2, 'current',
        case when n > ${rows - 50} then 'closed' else 'open' end, null, n, 0, n, 0, '{}', 1,
        gen_random_uuid(), '2026-01-01 00:00Z'::timestamptz + n * interval '1 min', now()
      from generate_series(1, ${rows}) n;
    insert into read.tiers_edges
      select distinct currency, 2, '{0,10000,39000}'::bigint[] from read.accounts;
    insert into read.tiers_heads
      select id, version, last_event_id, currency, width_bucket(ledger_balance, edges), ledger_balance
      from read.accounts join read.tiers_edges using (currency);
    insert into read.statements_heads
      select id, 3, last_event_id, currency, 2, 1, 0, '2026-03-01T00:00:00.000000Z'
      from read.accounts;
    insert into read.statement_lines
      select 'acc-' || lpad((n % 10)::text, 5, '0'), '2026-02-01'::timestamptz + n * interval '1 min',
        n, '2026-02-01'::timestamptz + (n - case n % 4 when 0 then 60 else 0 end) * interval '1 min',
        'deposit', 1, n, n / 4, gen_random_uuid()
      from generate_series(1, ${rows}) n;
    insert into read.statement_shifts
      select account_id, (effective_at at time zone 'UTC')::date, sum(amount)
      from read.statement_lines where effective_at <> recorded_at group by 1, 2;
    insert into read.holds_heads
      select id, 2, gen_random_uuid(), now() from read.accounts;
    insert into read.holds (id, account_id, amount, currency, status, expires_at, placed_version,
        placed_at)
      select gen_random_uuid(), 'acc-' || lpad((n % 10)::text, 5, '0'), 1, 'EUR', 'active', now(), n,
        now()
      from generate_series(1, ${rows}) n;
    insert into read.transfer_halves
      select md5('t' || n)::uuid, 'from', 'acc-' || n, 'acc-0', gen_random_uuid(), 1, 'EUR', null,
        now(), 2, now(), null, null
      from generate_series(1, ${rows}) n;
    insert into read.risk_flags
      select 'acc-' || lpad((n % 10)::text, 5, '0'), n, 'outlier', now() - n * interval '1 s', 'far',
        '[]'
      from generate_series(1, ${rows}) n;
    insert into read.search_accounts
      select id, owner, setweight(to_tsvector('simple', 'ada ' || owner), 'A'), 1, now()
      from read.accounts;
    insert into read.search_references
      select 'acc-' || n, 2, gen_random_uuid(), 'rent ' || n,
        setweight(to_tsvector('simple', 'rent ' || n), 'C'), now()
      from generate_series(1, ${rows}) n;
    insert into read.search_words
      select distinct translate(md5(n::text), '0123456789', 'ghijklmnop')
      from generate_series(1, ${rows}) n;
    insert into read.search_words values ('ada'), ('rent')`)
  await client.query('vacuum analyze')
})

async function asSuperuser<T>(work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: model.url })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

/** Tables whose size is not that of the accounts: what is in quarantine, and sums over the slots. */
const small = ['quarantine', 'tiers_edges', 'tiers_tallies', 'totals_tallies', 'dashboard_tallies']

type Read = { scanned: string[]; entries: number }

/** Tables that this read as a whole, and how many entries of indexes and rows of tables it read. */
async function readBy(work: () => Promise<unknown>): Promise<Read> {
  await asSuperuser((client) => client.query('select pg_stat_reset()'))
  await work()
  // Each connection counts for itself, and tells the others of it only now and then.
  await onEach('select pg_stat_force_next_flush()')
  const { rows: found } = await asSuperuser((client) =>
    client.query<{ name: string; scanned: boolean; entries: number }>(
      `select t.relname as name, t.seq_scan > 0 as scanned,
          (t.seq_tup_read + coalesce(sum(i.idx_tup_read), 0))::int as entries
        from pg_stat_user_tables t left join pg_stat_user_indexes i using (relid)
        where t.schemaname = 'read' and t.relname <> all ($1)
        group by t.relid, t.relname, t.seq_scan, t.seq_tup_read order by t.relname`,
      [small],
    ),
  )
  const scanned = found.filter((table) => table.scanned).map(({ name }) => name)
  return { scanned, entries: found.reduce((sum, { entries }) => sum + entries, 0) }
}

type Asked = Parameters<typeof model.get>[1]
type Question = [path: string, asked: Asked]

const params = { id: 'acc-00007' }
const connections = 4
const onEach = (text: string) =>
  Promise.all(Array.from({ length: connections }, () => model.reader.query(text)))

/** How often each is asked: with the values in view, and once by the plan that fits all values. */
const times = 4
/** Their statements have no name, and are planned each time. */
const plannedEachTime = new Set(['/accounts', '/risk/flags'])

const asking =
  ([path, asked]: Question) =>
  async () => {
    for (let time = 1; time < times; time += 1) await model.get(path, asked).catch(notFound)
    if (!plannedEachTime.has(path)) await onEach('set plan_cache_mode = force_generic_plan')
    await model.get(path, asked).catch(notFound)
    await onEach('reset plan_cache_mode')
  }

function notFound(error: unknown): void {
  expect(error).toMatchObject({ code: 'transfer_not_found' })
}

const list = (query: Record<string, string>): Question => ['/accounts', { query }]
const of = (name: string, query: Record<string, string> = {}): Question => [
  `/accounts/:id/${name}`,
  { params, query },
]
const month = { from: '2026-02-10T00:00:00Z', to: '2026-03-10T00:00:00Z' }
const at = '2026-02-20T10:00:00Z'

const questions: Question[] = [
  ['/accounts/:id', { params }],
  list({}),
  list({ owner: 'Owner 77' }),
  list({ owner: 'Owner 77', status: 'closed', minBalance: '5' }),
  list({ status: 'closed' }),
  list({ currency: 'CHF' }),
  list({ currency: 'EUR', status: 'closed' }),
  list({ tier: 'EUR:39000..' }),
  list({ tier: 'CHF:39000..' }),
  of('transactions'),
  ...(['recorded', 'effective'] as const).flatMap((clock) => [
    of('statement', { clock }),
    of('statement', { clock, ...month, limit: '50' }),
    of('balance', { clock }),
    of('balance', { clock, at }),
  ]),
  ['/tiers', {}],
  ['/totals', {}],
  ['/dashboard', {}],
  of('holds'),
  of('holds', { status: 'active' }),
  ['/transfers/:id', { params: { id: 'a4c5e3a1-3c3e-4b0c-8d5e-000000000000' } }],
  ['/risk/flags', {}],
  ['/risk/flags', { query: { account: params.id } }],
  ['/risk/flags', { query: { kind: 'outlier', from: '2026-01-01T00:00:00Z' } }],
]

test.each(questions)('%s of %o reads little more than what it shows', async (path, asked) => {
  const { scanned, entries } = await readBy(asking([path, asked]))
  expect(scanned).toEqual([])
  expect(entries / times).toBeLessThan(1_500)
})

// Of these no index is the right one: what they may look at is bounded.
const bounded: Question[] = [
  list({ minBalance: '39900', maxBalance: '39950' }),
  list({ minBalance: '39900', currency: 'CHF' }),
  list({ minBalance: '20000' }),
  list({ minBalance: '20000', currency: 'USD', status: 'closed' }),
  list({ openedFrom: '2026-01-28T00:00:00Z', openedTo: '2026-01-28T06:00:00Z' }),
  list({ openedFrom: '2026-01-10T00:00:00Z' }),
  list({ openedTo: '2026-01-10T00:00:00Z', minBalance: '20000' }),
  list({ status: 'open', maxBalance: '-1' }),
  list({ tier: 'EUR:10000..39000', status: 'closed' }),
  list({ tier: 'EUR:10000..39000', minBalance: '38000', openedTo: '2026-01-10T00:00:00Z' }),
]

test.each(bounded)('%s of %o looks at no more than it may', async (path, asked) => {
  const { scanned, entries } = await readBy(asking([path, asked]))
  expect(scanned).toEqual([])
  expect(entries / times).toBeLessThan(25_000)
})

test.each([{ q: 'ada' }, { q: 'adda' }, { q: 'rent 77' }, { q: 'ada rnet' }])(
  '/search of %o reads no table as a whole',
  async (query) => {
    expect((await readBy(asking(['/search', { query }]))).scanned).toEqual([])
  },
)

test('every read of every read model is asked here', () => {
  const asked = new Set([...questions, ...bounded].map(([path]) => path))
  expect(model.paths.filter((path) => !asked.has(path))).toEqual(['/search'])
})

test('a table or an index that is read as a whole is noticed', async () => {
  const counted = await readBy(() => model.reader.query('select count(amount) from read.holds'))
  expect(counted.entries).toBeGreaterThanOrEqual(rows)
  const whole =
    'set enable_seqscan = on; select count(amount) from read.holds; reset enable_seqscan'
  expect(await readBy(() => model.reader.query(whole))).toMatchObject({ scanned: ['holds'] })
})

const missing: [index: string, question: Question][] = [
  ['accounts_owner', list({ owner: 'Owner 77' })],
  ['tiers_members', list({ tier: 'CHF:39000..' })],
  ['accounts_by_opening', list({ openedFrom: '2026-01-28T00:00:00Z' })],
  ['holds_list', of('holds')],
]

test.each(missing)(
  'without the index %s a question reads more than it may',
  async (name, asked) => {
    const definition = await asSuperuser(async (client) => {
      const text = 'select pg_get_indexdef($1::regclass) as text'
      const { rows: found } = await client.query<{ text: string }>(text, [`read.${name}`])
      await client.query(`drop index read.${name}`)
      return found[0]!.text
    })
    try {
      const { entries } = await readBy(asking(asked))
      expect(entries / times).toBeGreaterThan(1_500)
    } finally {
      await asSuperuser((client) => client.query(definition))
    }
  },
)

test('without the key of its lines a statement reads them all', async () => {
  const key = 'alter table read.statement_lines'
  const columns = '(account_id, recorded_at, version)'
  await asSuperuser((client) => client.query(`${key} drop constraint statement_lines_pkey`))
  try {
    const { scanned } = await readBy(asking(of('statement', { limit: '1' })))
    expect(scanned).toEqual(['statement_lines'])
  } finally {
    await asSuperuser((client) => client.query(`${key} add primary key ${columns}`))
  }
})

/**
 * How much of what events update is written to the account's page alone, and to no index. Few are updated,
 * each once: a page has room for these, though a transaction that is open, in whatever database of the
 * server, keeps it from being tidied.
 */
async function sharePastIndexes(prefix: string): Promise<number> {
  const names = Array.from({ length: 60 }, (_, index) => `${prefix}-${index}`)
  await model.apply(names.map((name) => eventRow(name, 1)))
  await asSuperuser((client) => client.query('select pg_stat_reset()'))
  const some = names.slice(0, 5)
  for (const name of some) await model.apply([eventRow(name, 2)])
  const flush = () => model.pool.query('select pg_stat_force_next_flush()')
  await Promise.all(Array.from({ length: connections }, flush))
  const { rows: found } = await asSuperuser((client) =>
    client.query<{ updated: number; share: number }>(
      `select n_tup_upd::int as updated, n_tup_hot_upd::float / n_tup_upd as share
        from pg_stat_user_tables where relname = 'accounts'`,
    ),
  )
  expect(found[0]?.updated).toBe(some.length)
  return found[0]!.share
}

test('an event writes to no index of the accounts, and would if one went by the balance', async () => {
  expect(await sharePastIndexes('hot')).toBe(1)
  const index = 'create index by_balance on read.accounts (ledger_balance)'
  await asSuperuser((client) => client.query(index))
  expect(await sharePastIndexes('cold')).toBe(0)
})
