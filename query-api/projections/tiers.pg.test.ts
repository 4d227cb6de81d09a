import fc from 'fast-check'
import { testDatabases } from 'local-stack/test-databases'
import { afterAll, expect, test } from 'vitest'
import type { ProjectedEvent } from '../projection.ts'
import { historyOf, outboxRow, projected, timeOf } from '../test-events.ts'
import { openProjectorPool, openReaderPool } from '../test-pools.ts'
import { storyOf } from '../test-story.ts'
import { inTransaction } from '../transaction.ts'
import { openReadModel } from './test-read-model.ts'
import { putTiersInForce } from './tiers-change.ts'
import { type Edges, rangeOf, tierOf } from './tiers-edges.ts'
import { readTiers, tierRoutes } from './tiers-reads.ts'
import { tiers } from './tiers.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(openProjectorPool(databases, { maxConnections: 16 }))
const reader = cleanup.use(openReaderPool(databases))
afterAll(() => cleanup.disposeAsync())

const apply = (events: readonly ProjectedEvent[]) =>
  inTransaction(pool, 20_000, (transaction) => tiers.apply(transaction, events))

const exponents: Readonly<Record<string, number>> = { EUR: 2, JPY: 0, KWD: 3 }

/** Versions 1 to n, with these balances after them. */
function withBalances(account: string, currency: string, balances: readonly bigint[]) {
  return balances.map((balance, index) => {
    const version = index + 1
    const [ledgerBalance, at] = [String(balance), timeOf(version)]
    const after = { version, ledgerBalance, held: '0', available: ledgerBalance, status: 'open' }
    const opening = { owner: 'Ada', currency, exponent: exponents[currency], type: 'current' }
    const movement = { transactionId: crypto.randomUUID(), amount: '1', currency, reference: null }
    return projected(
      outboxRow({
        account,
        version,
        type: version === 1 ? 'AccountOpened.v1' : 'FundsDeposited.v1',
        at,
        payload:
          version === 1
            ? { accountId: account, ...opening, overdraftLimit: '0', metadata: {}, after }
            : { accountId: account, ...movement, effectiveAt: at, after },
      }),
    )
  })
}

/** What is answered, and what the balances that `tiers` itself keeps make of it. */
async function bothSides() {
  const { rows } = await pool.query<{ currency: string; tier: number; balance: string }>(
    'select currency, tier, balance from read.tiers_heads',
  )
  const { items } = await readTiers(reader)
  const summed = items.map(({ currency, from, to }) => {
    const own = rows.filter((row) => {
      const balance = BigInt(row.balance)
      return (
        row.currency === currency &&
        (from === null || balance >= BigInt(from)) &&
        (to === null || balance < BigInt(to))
      )
    })
    const total = own.reduce((sum, { balance }) => sum + BigInt(balance), 0n)
    return { currency, from, to, count: own.length, total: String(total) }
  })
  return { items, summed, accounts: rows.length }
}

async function expectExact(): Promise<void> {
  const { items, summed, accounts } = await bothSides()
  expect(items).toEqual(summed)
  expect(items.reduce((sum, { count }) => sum + count, 0)).toBe(accounts)
}

test('each currency is cut at its own edges, and balances below zero have a tier', async () => {
  const edges = { EUR: [0n, 10_000n, 100_000n], JPY: [0n, 100n, 1_000n], KWD: [0n, 100_000n] }
  for (const [currency, own] of Object.entries(edges)) {
    const balances = own.flatMap((edge) => [edge - 1n, edge, edge + 1n])
    await apply(
      balances.flatMap((balance, index) =>
        withBalances(`edge-${currency}-${index}`, currency, [balance]),
      ),
    )
  }
  await expectExact()
  const { items, version, asOf } = await readTiers(reader)
  expect(items.filter(({ currency }) => currency === 'EUR')).toEqual([
    { currency: 'EUR', from: null, to: '0', count: 1, total: '-1' },
    { currency: 'EUR', from: '0', to: '10000', count: 3, total: '10000' },
    { currency: 'EUR', from: '10000', to: '100000', count: 3, total: '120000' },
    { currency: 'EUR', from: '100000', to: null, count: 2, total: '200001' },
  ])
  expect(items.filter(({ currency }) => currency === 'KWD')).toHaveLength(4)
  expect({ version, asOf }).toEqual({ version: 24, asOf: timeOf(1).replace('000Z', 'Z') })
})

test('after every batch of any balances, counts and totals are those of the accounts', async () => {
  const balance = fc.oneof(
    fc.constantFrom(-1n, 0n, 1n, 9_999n, 10_000n, 10_001n, 99_999n, 100_000n),
    fc.bigInt({ min: -999_999_999_999_999_999n, max: 999_999_999_999_999_999n }),
  )
  const history = fc.tuple(
    fc.constantFrom('EUR', 'JPY', 'KWD'),
    fc.array(balance, { minLength: 1, maxLength: 8 }),
  )
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.array(history, { minLength: 1, maxLength: 6 }), async (histories) => {
      run += 1
      const lists = histories.map(([currency, balances], index) =>
        withBalances(`any-${run}-${index}`, currency, balances),
      )
      for (let from = 0; from < 8; from += 3) {
        await apply(lists.flatMap((list) => list.slice(from, from + 3)))
        await expectExact()
      }
    }),
    { numRuns: 15 },
  )
})

test('a forgotten account is out of the figures, and a rebuilt one is in them once', async () => {
  const events = withBalances('rebuilt', 'EUR', [0n, 70_000n])
  const before = await readTiers(reader)
  await apply(events)
  await inTransaction(pool, 5_000, (transaction) => tiers.forget(transaction, 'rebuilt'))
  expect((await readTiers(reader)).items).toEqual(before.items)
  await inTransaction(pool, 5_000, (transaction) => tiers.forget(transaction, 'rebuilt'))
  await apply(withBalances('rebuilt', 'EUR', [0n, 70_000n, -5n]))
  await expectExact()
  // What was read before is never newer than what is read after.
  expect((await readTiers(reader)).version).toBe(before.version + 5)
})

test('an event that is left out moves the account on, in the tier in which it is', async () => {
  const events = withBalances('passed', 'EUR', [0n, 5n, 20_000n])
  await apply(events.slice(0, 1))
  const pass = await inTransaction(pool, 5_000, (transaction) =>
    tiers.pass(transaction, events[1]!),
  )
  expect(pass).toBe(true)
  await expectExact()
  expect(await apply(events)).toMatchObject({ applied: 1, duplicates: 2 })
  await expectExact()
})

test('partitions that are projected at once lose nothing and deadlock nowhere', async () => {
  const partitions = Array.from({ length: 12 }, (_, partition) =>
    Array.from({ length: 25 }, (_, index) => {
      const name = `at-once-${partition}-${index}`
      const currency = ['EUR', 'JPY', 'KWD'][index % 3]!
      const balances = Array.from({ length: 20 }, () => BigInt(Math.floor(Math.random() * 200_000)))
      return withBalances(name, currency, balances)
    }),
  )
  const { rows: before } = await pool.query<{ deadlocks: string }>(
    'select deadlocks from pg_stat_database where datname = current_database()',
  )
  await Promise.all(
    partitions.map(async (histories) => {
      for (let version = 0; version < 20; version += 2) {
        await apply(histories.flatMap((own) => own.slice(version, version + 2)))
        // What is read meanwhile foots, too: as many accounts as were there at one moment.
        const { items } = await readTiers(reader)
        expect(items.every(({ count }) => count >= 0)).toBe(true)
      }
    }),
  )
  await expectExact()
  const { rows: after } = await pool.query<{ deadlocks: string }>(
    'select deadlocks from pg_stat_database where datname = current_database()',
  )
  expect(after).toEqual(before)
})

test('other edges sort and count all accounts anew, and the projection goes on', async () => {
  const { items: old, version } = await readTiers(reader)
  const wanted = new Map<string, Edges>([
    ['EUR', [-500n, 5_000n, 5_001n]],
    ['CHF', [7n]],
  ])
  expect((await putTiersInForce(pool, wanted)).toSorted()).toEqual(['CHF', 'EUR'])
  expect(await putTiersInForce(pool, wanted)).toEqual([])
  await expectExact()
  const changed = await readTiers(reader)
  expect(changed.version).toBe(version)
  const rangesOf = (currency: string) =>
    changed.items.filter((item) => item.currency === currency).map(({ from, to }) => [from, to])
  expect(rangesOf('EUR')).toEqual([
    [null, '-500'],
    ['-500', '5000'],
    ['5000', '5001'],
    ['5001', null],
  ])
  expect(rangesOf('CHF')).toEqual([
    [null, '7'],
    ['7', null],
  ])
  await apply(withBalances('after-change', 'EUR', [0n, 5_000n]))
  await expectExact()
  // Without TIERS, a currency is cut as ever, and one that nobody has is not there.
  await putTiersInForce(pool, new Map())
  await expectExact()
  const { items } = await readTiers(reader)
  expect(items.map(({ currency, from, to }) => [currency, from, to])).toEqual(
    old.map(({ currency, from, to }) => [currency, from, to]),
  )
})

test('edges that change while events are applied leave every account in its tier', async () => {
  let changes = 0
  const changing = (async () => {
    for (let round = 0; round < 6; round += 1) {
      const edges = new Map([['EUR', [0n, BigInt(1_000 * (round + 1))]]])
      changes += (await putTiersInForce(pool, edges)).length
    }
  })()
  const applying = [0, 1, 2, 3].map(async (partition) => {
    for (let round = 0; round < 10; round += 1) {
      const events = Array.from({ length: 10 }, (_, index) =>
        withBalances(`moving-${partition}-${round}-${index}`, 'EUR', [0n, BigInt(index * 777)]),
      )
      await apply(events.flat())
    }
  })
  await Promise.all([changing, ...applying])
  expect(changes).toBe(6)
  await expectExact()
  const { rows } = await pool.query<{ tier: number; balance: string; edges: string[] }>(
    'select tier, balance, edges from read.tiers_heads join read.tiers_edges using (currency)',
  )
  for (const { tier, balance, edges } of rows) {
    expect(tier).toBe(tierOf(edges.map(BigInt), BigInt(balance)))
  }
})

test('Postgres and this code find the same tier for a balance', async () => {
  const edges: Edges = [-500n, 0n, 10_000n]
  const balances = edges.flatMap((edge) => [edge - 1n, edge, edge + 1n])
  const { rows } = await pool.query<{ tier: number }>(
    'select width_bucket(balance, $2::bigint[]) as tier from unnest($1::bigint[]) as balance',
    [balances, edges],
  )
  expect(rows.map(({ tier }) => tier)).toEqual(balances.map((balance) => tierOf(edges, balance)))
  expect(rangeOf(edges, 0)).toEqual({ from: null, to: -500n })
})

test('an account that no event has opened is refused as a gap', async () => {
  const { refusals } = await apply([projected(historyOf('unopened', 2)[1]!)])
  expect(refusals).toMatchObject([{ code: 'version_gap', wanted: 1 }])
})

test('of a story with every type of event, the tiers are those of a fold in memory', async () => {
  await using model = await openReadModel({ projection: tiers, routes: tierRoutes })
  const story = storyOf(22)
  await model.apply(story)
  const events = story.map(projected)
  const last = new Map(events.map((each) => [each.account, each.event.payload.after.ledgerBalance]))
  const currencies = new Map(
    events.flatMap(({ account, event }) =>
      event.type === 'AccountOpened.v1' ? [[account, event.payload.currency]] : [],
    ),
  )
  const { items, version } = await model.body('/tiers')
  const tiersOf = items as { currency: string; from: string | null; to: string | null }[]
  const fold = tiersOf.map(({ currency, from, to }) => {
    const balances = [...last]
      .filter(([account]) => currencies.get(account) === currency)
      .map(([, balance]) => BigInt(balance))
      .filter(
        (each) => (from === null || each >= BigInt(from)) && (to === null || each < BigInt(to)),
      )
    const total = balances.reduce((sum, each) => sum + each, 0n)
    return { currency, from, to, count: balances.length, total: String(total) }
  })
  expect(items).toEqual(fold)
  expect(fold.reduce((sum, { count }) => sum + count, 0)).toBe(last.size)
  expect(version).toBe(events.length)
})
