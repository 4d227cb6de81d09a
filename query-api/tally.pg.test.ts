import { testDatabases } from 'local-stack/test-databases'
import { afterAll, expect, test } from 'vitest'
import { Tally, type TallyTable } from './tally.ts'
import { openProjectorPool } from './test-pools.ts'
import { inTransaction, type Transaction } from './transaction.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(openProjectorPool(databases, { maxConnections: 48 }))
afterAll(() => cleanup.disposeAsync())

const table: TallyTable = {
  table: 'read.totals_tallies',
  keys: { currency: 'text', status: 'text' },
  sums: ['accounts', 'ledger_balance', 'held', 'available', 'events'],
}

function tallyOf(currency: string, accounts: bigint): Tally {
  const tally = new Tally(table)
  for (const status of ['open', 'closed']) {
    tally.add([currency, status], [accounts, 10n ** 18n, 0n, -1n, 1n], '2026-01-01T00:00:00Z')
  }
  return tally
}

const inOne = (work: (transaction: Transaction) => Promise<void>) =>
  inTransaction(pool, 20_000, work)

async function sumOf(currency: string) {
  const { rows } = await pool.query<{ accounts: string; ledger_balance: string; slots: number }>(
    `select sum(accounts) as accounts, sum(ledger_balance) as ledger_balance,
        count(distinct slot)::int as slots
      from read.totals_tallies where currency = $1 and status = 'open'`,
    [currency],
  )
  return rows[0]!
}

test('what a transaction adds is there with its commit, and goes with its rollback', async () => {
  await inOne(async (transaction) => tallyOf('AAA', 2n).send(transaction))
  const failed = inOne(async (transaction) => {
    tallyOf('AAA', 5n).send(transaction)
    await transaction.query('select 1/0')
  })
  await expect(failed).rejects.toMatchObject({ code: '22012' })
  await inOne(async (transaction) => tallyOf('AAA', -1n).send(transaction))
  expect(await sumOf('AAA')).toMatchObject({
    accounts: '1',
    ledger_balance: String(2n * 10n ** 18n),
  })
})

test('nobody waits for another that added to the same groups and is still at work', async () => {
  await inOne(async (held) => {
    tallyOf('BBB', 1n).send(held)
    await held.settle()
    const begun = performance.now()
    await inOne(async (transaction) => tallyOf('BBB', 1n).send(transaction))
    // Far below the lock timeout of 5 s, after which it would have failed.
    expect(performance.now() - begun).toBeLessThan(2_000)
  })
  expect(await sumOf('BBB')).toMatchObject({ accounts: '2', slots: 2 })
})

test('of many at once, more than there are slots, nothing is lost and none fails', async () => {
  const rounds = Array.from({ length: 40 }, async () => {
    for (let round = 0; round < 10; round += 1) {
      await inOne(async (transaction) => {
        tallyOf('CCC', 1n).send(transaction)
        await transaction.query('select pg_sleep(0.002)')
      })
    }
  })
  await Promise.all(rounds)
  const { accounts, slots } = await sumOf('CCC')
  expect(accounts).toBe('400')
  expect(slots).toBeGreaterThan(1)
  // Slot 0 and 32 more.
  expect(slots).toBeLessThanOrEqual(33)
})

test('the newest time stays, whichever comes last', async () => {
  for (const at of ['2026-01-02T00:00:00Z', '2026-01-03T00:00:00Z', '2026-01-01T00:00:00Z']) {
    const tally = new Tally(table)
    tally.add(['DDD', 'open'], [1n, 0n, 0n, 0n, 1n], at)
    await inOne(async (transaction) => tally.send(transaction))
  }
  const { rows } = await pool.query<{ newest: Date }>(
    `select max(as_of) as newest from read.totals_tallies where currency = 'DDD'`,
  )
  expect(rows[0]!.newest.toISOString()).toBe('2026-01-03T00:00:00.000Z')
})
