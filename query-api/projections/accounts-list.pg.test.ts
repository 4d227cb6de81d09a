import fc from 'fast-check'
import { testDatabases } from 'local-stack/test-databases'
import { databaseOver } from 'migrations/database'
import type { ReadDatabase } from 'migrations/read'
import { afterAll, expect, test } from 'vitest'
import { openProjectorPool, openReaderPool } from '../test-pools.ts'
import { type AccountFilters, listAccounts } from './accounts-list.ts'

const cleanup = new AsyncDisposableStack()
afterAll(() => cleanup.disposeAsync())
const databases = await testDatabases()
cleanup.use(databases)
const pool = cleanup.use(openProjectorPool(databases))
const database = databaseOver<ReadDatabase>(cleanup.use(openReaderPool(databases)))

// More accounts than an answer looks at, whose balances, openings and ids rise together.
const rows = 16_000
await pool.query(`
  insert into read.accounts
    select 'acc-' || lpad(n::text, 5, '0'), 'Owner ' || n % 7,
      (array['EUR', 'USD', 'CHF'])[1 + (n % 97) % 3], 2, 'current',
      case n % 11 when 0 then 'closed' else 'open' end, null, n, 0, n, 0, '{}', 1, gen_random_uuid(),
      '2026-01-01 00:00Z'::timestamptz + n * interval '1 min', now()
    from generate_series(1, ${rows}) n`)
await pool.query(`
  insert into read.tiers_heads
    select id, version, last_event_id, currency, 1 + (ledger_balance / 9000)::int, ledger_balance
    from read.accounts`)

const minute = (number: number) => new Date(Date.UTC(2026, 0, 1) + number * 60_000)
const account = fc.integer({ min: 0, max: rows + 100 })
const one = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined })
const anyFilters: fc.Arbitrary<AccountFilters> = fc.record({
  owner: fc.option(fc.constantFrom('Owner 3', 'Nobody'), { nil: undefined, freq: 1 }),
  status: one(fc.constantFrom('open', 'closed')),
  currency: one(fc.constantFrom('EUR', 'CHF', 'SEK')),
  minBalance: one(account.map(String)),
  maxBalance: one(account.map(String)),
  openedFrom: one(account.map(minute)),
  openedTo: one(account.map(minute)),
  tier: one(fc.constantFrom({ currency: 'EUR', tier: 1 }, { currency: 'USD', tier: 2 })),
})

/** What a list has to show, by a statement of its own. */
async function expectedIds(filters: AccountFilters): Promise<string[]> {
  const { owner, status, currency, minBalance, maxBalance, openedFrom, openedTo, tier } = filters
  const { rows: found } = await pool.query<{ id: string }>(
    `select id from read.accounts join read.tiers_heads h on h.account_id = id
      where ($1::text is null or owner = $1) and ($2::text is null or status = $2)
        and ($3::text is null or accounts.currency = $3)
        and ($4::bigint is null or ledger_balance >= $4)
        and ($5::bigint is null or ledger_balance <= $5)
        and ($6::timestamptz is null or opened_at >= $6)
        and ($7::timestamptz is null or opened_at < $7)
        and ($8::text is null or h.currency = $8) and ($9::int is null or h.tier = $9)
      order by id`,
    [owner, status, currency, minBalance, maxBalance, openedFrom, openedTo]
      .concat([tier?.currency, tier?.tier as unknown as string])
      .map((value) => value ?? null),
  )
  return found.map(({ id }) => id)
}

type Meanwhile = () => Promise<unknown>

async function walk(filters: AccountFilters, limit: number, meanwhile: Meanwhile = async () => {}) {
  const pages: string[][] = []
  let after: string | undefined = ''
  while (after !== undefined) {
    const page: Awaited<ReturnType<typeof listAccounts>> = await listAccounts(database, filters, {
      after,
      limit,
    })
    pages.push(page.rows.map(({ id }) => id))
    after = page.through
    await meanwhile()
  }
  return pages
}

test('whatever filters come together, the pages have every account that they keep, once', async () => {
  const property = fc.asyncProperty(anyFilters, async (filters) => {
    const pages = await walk(filters, 2_000)
    expect(pages.flat()).toEqual(await expectedIds(filters))
  })
  await fc.assert(property, { numRuns: 25 })
})

test('a page is full, or goes on, or is the last', async () => {
  const filters = { minBalance: String(rows - 1), maxBalance: String(rows) }
  const pages = await walk(filters, 100)
  expect(pages.map((ids) => ids.length)).toEqual([0, 0, 0, 2])
  const many = await walk({ minBalance: '5' }, 7_000)
  expect(many.flat()).toHaveLength(rows - 4)
  expect(await walk({ owner: 'Nobody', minBalance: '5' }, 100)).toEqual([[]])
})

test('of those opened within an hour, all are found at once', async () => {
  const filters = { openedFrom: minute(15_000), openedTo: minute(15_060), minBalance: '15010' }
  expect((await walk(filters, 100)).map((ids) => ids.length)).toEqual([50])
})

test('under writes each account comes once, and none is missing that was there throughout', async () => {
  const filters: AccountFilters = { status: 'open', currency: 'EUR', minBalance: '4000' }
  const before = await expectedIds(filters)
  let opened = 0
  const seen = await walk(filters, 300, async () => {
    // Balances move within what is asked for, others out of it and into it, and some are opened.
    await pool.query(`update read.accounts set ledger_balance = 4000 + (ledger_balance * 7) % 9000
      where ledger_balance >= 4000 and id like '%1'`)
    await pool.query(`update read.accounts set status = 'closed' where id like '%9${opened % 10}'`)
    await pool.query(`update read.accounts set status = 'open' where id like '%8${opened % 10}'`)
    await pool.query(
      `insert into read.accounts select id || '-' || $1, owner, currency, exponent, type, status,
          frozen, ledger_balance, held, available, overdraft_limit, metadata, version,
          last_event_id, opened_at, as_of
        from read.accounts where id like '%00' and length(id) = 9`,
      [(opened += 1)],
    )
  })
  const ids = seen.flat()
  expect(new Set(ids).size).toBe(ids.length)
  expect(ids).toEqual(ids.toSorted())
  const closed = (id: string) => /9\d$/.test(id)
  const missing = before.filter((id) => !closed(id) && !ids.includes(id))
  expect(missing).toEqual([])
  expect(opened).toBeGreaterThan(8)
})
