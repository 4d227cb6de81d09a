import { testDatabases } from 'local-stack/test-databases'
import { afterAll, expect, test } from 'vitest'
import type { ProjectedEvent } from '../projection.ts'
import { eventRow, historyOf, outboxRow, projected, timeOf } from '../test-events.ts'
import { openProjectorPool, openReaderPool } from '../test-pools.ts'
import { storyOf } from '../test-story.ts'
import { inTransaction } from '../transaction.ts'
import { openReadModel } from './test-read-model.ts'
import { readTotals, totalRoutes } from './totals-reads.ts'
import { totals } from './totals.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(openProjectorPool(databases, { maxConnections: 8 }))
const reader = cleanup.use(openReaderPool(databases, { maxConnections: 8 }))
afterAll(() => cleanup.disposeAsync())

const apply = (events: readonly ProjectedEvent[]) =>
  inTransaction(pool, 10_000, (transaction) => totals.apply(transaction, events))

function closing(account: string, version: number): ProjectedEvent {
  const after = { version, ledgerBalance: '0', held: '0', available: '0', status: 'closed' }
  const payload = { accountId: account, after }
  return projected(
    outboxRow({ account, version, type: 'AccountClosed.v1', at: timeOf(version), payload }),
  )
}

/** The sums over the accounts that the projection itself keeps. */
async function summed() {
  const { rows } = await pool.query(
    `select currency, status, count(*)::int as count, sum(ledger_balance) as "ledgerBalance",
        sum(held) as held, sum(available) as available
      from read.totals_heads group by currency, status order by currency, status desc`,
  )
  return rows
}

test('nothing is said of a currency before an account of it is opened', async () => {
  expect(await readTotals(reader)).toEqual({ items: [], version: 0, asOf: null })
})

test('money is summed by currency and status, and moves when an account is closed', async () => {
  await apply([...historyOf('kept', 5), ...historyOf('closed', 3)].map(projected))
  expect(await readTotals(reader)).toEqual({
    items: [
      {
        currency: 'EUR',
        status: 'open',
        count: 2,
        ledgerBalance: '60',
        held: '0',
        available: '60',
      },
    ],
    version: 8,
    asOf: timeOf(5).replace('000Z', 'Z'),
  })
  await apply([closing('closed', 4)])
  expect(await readTotals(reader)).toMatchObject({
    items: [
      { status: 'open', count: 1, ledgerBalance: '40' },
      { status: 'closed', count: 1, ledgerBalance: '0' },
    ],
    version: 9,
  })
})

test('sums beyond what one account can hold keep every digit', async () => {
  const balance = '999999999999999999'
  const rich = ['rich-1', 'rich-2', 'rich-3'].flatMap((account) => [
    eventRow(account, 1),
    eventRow(account, 2, { balance }),
  ])
  const before = (await readTotals(reader)).items[0]!
  await apply(rich.map(projected))
  const after = (await readTotals(reader)).items[0]!
  expect(BigInt(after.ledgerBalance)).toBe(BigInt(before.ledgerBalance) + 3n * BigInt(balance))
  expect((await readTotals(reader)).items).toEqual(await summed())
})

test('a forgotten account is out of the sums, and a rebuilt one is in them once', async () => {
  const before = await readTotals(reader)
  await apply(historyOf('rebuilt', 4).map(projected))
  await inTransaction(pool, 5_000, (transaction) => totals.forget(transaction, 'rebuilt'))
  expect((await readTotals(reader)).items).toEqual(before.items)
  await apply(historyOf('rebuilt', 6).map(projected))
  expect((await readTotals(reader)).items).toEqual(await summed())
})

test('after batches of several partitions at once the sums are those of the accounts', async () => {
  await Promise.all(
    [0, 1, 2, 3, 4, 5].map(async (partition) => {
      const histories = Array.from({ length: 20 }, (_, index) =>
        historyOf(`at-once-${partition}-${index}`, 12).map(projected),
      )
      for (let version = 0; version < 12; version += 3) {
        await apply(histories.flatMap((own) => own.slice(version, version + 3)))
      }
    }),
  )
  expect((await readTotals(reader)).items).toEqual(await summed())
})

test('of a story with every type of event, the sums are those of a fold in memory', async () => {
  await using model = await openReadModel({ projection: totals, routes: totalRoutes })
  const story = storyOf(23)
  await model.apply(story)
  const currencies = new Map<string, string>()
  const last = new Map<string, ProjectedEvent['event']['payload']['after']>()
  for (const { account, event } of story.map(projected)) {
    if (event.type === 'AccountOpened.v1') currencies.set(account, event.payload.currency)
    last.set(account, event.payload.after)
  }
  const groups = Map.groupBy(
    last,
    ([account, { status }]) => `${currencies.get(account)} ${status}`,
  )
  const fold = [...groups].map(([group, own]) => {
    const sum = (key: 'ledgerBalance' | 'held' | 'available') =>
      String(own.reduce((all, [, after]) => all + BigInt(after[key]), 0n))
    const money = { ledgerBalance: sum('ledgerBalance'), held: sum('held') }
    const [currency, status] = group.split(' ')
    return { currency, status, count: own.length, ...money, available: sum('available') }
  })
  const { items, version } = await model.body('/totals')
  expect(items).toHaveLength(fold.length)
  expect(items).toEqual(expect.arrayContaining(fold))
  expect(version).toBe(story.length)
})
