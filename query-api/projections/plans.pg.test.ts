import { Client } from 'pg'
import { afterAll, expect, test } from 'vitest'
import { holdRoutes } from './holds-reads.ts'
import { holds } from './holds.ts'
import { riskRoutes } from './risk-reads.ts'
import { searchRoutes } from './search-reads.ts'
import { openReadModel } from './test-read-model.ts'
import { transferRoutes } from './transfers-reads.ts'

// No question reads a whole table. PostgreSQL counts the sequential scans of each: what was really
// done, within functions, too, and not only what was planned.

const routes = [holdRoutes, transferRoutes, riskRoutes, searchRoutes]
const model = await openReadModel({
  projection: holds,
  routes: (settings) => routes.flatMap((each) => each(settings)),
})
afterAll(() => model[Symbol.asyncDispose]())

const rows = 20_000
await asSuperuser(async (client) => {
  await client.query(`
    insert into read.holds_heads
      select 'acc-' || n, 2, gen_random_uuid(), now() from generate_series(1, ${rows}) n;
    insert into read.holds (id, account_id, amount, currency, status, expires_at, placed_version,
        placed_at)
      select gen_random_uuid(), 'acc-' || n % 100, 1, 'EUR', 'active', now(), n, now()
      from generate_series(1, ${rows}) n;
    insert into read.transfer_halves
      select md5('t' || n)::uuid, 'from', 'acc-' || n, 'acc-0', gen_random_uuid(), 1, 'EUR', null,
        now(), 2, now(), null, null
      from generate_series(1, ${rows}) n;
    insert into read.risk_flags
      select 'acc-' || n % 100, n, 'outlier', now() - n * interval '1 s', 'far', '[]'
      from generate_series(1, ${rows}) n;
    insert into read.search_accounts
      select 'acc-' || n, 'Ada ' || md5(n::text), setweight(to_tsvector('simple', 'ada x' || n), 'A'),
        1, now()
      from generate_series(1, ${rows}) n;
    insert into read.search_references
      select 'acc-' || n, 2, gen_random_uuid(), 'rent ' || n,
        setweight(to_tsvector('simple', 'rent ' || n), 'C'), now()
      from generate_series(1, ${rows}) n;
    insert into read.search_words
      select distinct translate(md5(n::text), '0123456789', 'ghijklmnop')
      from generate_series(1, ${rows}) n;
    insert into read.search_words values ('ada'), ('rent');
    analyze`)
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

/** Tables that this read as a whole; read.quarantine, which is empty, is not one to mind. */
async function scannedBy(work: () => Promise<unknown>): Promise<string[]> {
  await asSuperuser((client) => client.query('select pg_stat_reset()'))
  await work()
  // Each connection counts for itself, and tells the others of it only now and then.
  await Promise.all(
    Array.from({ length: 4 }, () => model.reader.query('select pg_stat_force_next_flush()')),
  )
  const { rows: found } = await asSuperuser((client) =>
    client.query<{ name: string }>(
      `select relname as name from pg_stat_user_tables
        where schemaname = 'read' and seq_scan > 0 and relname <> 'quarantine' order by relname`,
    ),
  )
  return found.map(({ name }) => name)
}

const id = 'acc-7'
const questions: [path: string, asked: Parameters<typeof model.get>[1]][] = [
  ['/accounts/:id/holds', { params: { id } }],
  ['/accounts/:id/holds', { params: { id }, query: { status: 'active' } }],
  ['/transfers/:id', { params: { id: 'a4c5e3a1-3c3e-4b0c-8d5e-000000000000' } }],
  ['/risk/flags', {}],
  ['/risk/flags', { query: { account: id } }],
  ['/risk/flags', { query: { kind: 'outlier', from: '2026-01-01T00:00:00Z' } }],
  ['/search', { query: { q: 'ada' } }],
  ['/search', { query: { q: 'adda' } }],
  ['/search', { query: { q: 'rent 77' } }],
  ['/search', { query: { q: 'ada rnet' } }],
]

test.each(questions)('%s of %o reads no table as a whole', async (path, asked) => {
  // More than five times: from then on a named statement may have a plan for all values.
  const ask = async () => {
    for (let times = 0; times < 7; times += 1) await model.get(path, asked).catch(notFound)
  }
  expect(await scannedBy(ask)).toEqual([])
})

test('a table that is read as a whole is noticed', async () => {
  const whole = () => model.reader.query('select count(amount) from read.holds')
  expect(await scannedBy(whole)).toEqual(['holds'])
})

function notFound(error: unknown): void {
  expect(error).toMatchObject({ code: 'transfer_not_found' })
}
