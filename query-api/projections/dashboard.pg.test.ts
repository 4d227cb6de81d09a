import { testDatabases } from 'local-stack/test-databases'
import { afterAll, expect, test } from 'vitest'
import type { ProjectedEvent } from '../projection.ts'
import { historyOf, projected } from '../test-events.ts'
import { openProjectorPool, openReaderPool } from '../test-pools.ts'
import { storyOf } from '../test-story.ts'
import { inTransaction } from '../transaction.ts'
import { readDashboard } from './dashboard-reads.ts'
import { dashboardAt } from './dashboard.ts'
import { tiers } from './tiers.ts'
import { totals } from './totals.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(openProjectorPool(databases, { maxConnections: 8 }))
const reader = cleanup.use(openReaderPool(databases, { maxConnections: 8 }))
afterAll(() => cleanup.disposeAsync())

const inOne = <T>(work: Parameters<typeof inTransaction<T>>[2]) => inTransaction(pool, 10_000, work)
/** The full minute in which the tests' movements are recorded, a few minutes ago. */
const minuteMs = Math.floor(Date.now() / 60_000) * 60_000 - 180_000
/** Just after that minute: it and its seconds are complete, and shown. */
const soonAfter = () => minuteMs + 60_000
const dashboard = dashboardAt(soonAfter)

const apply = (events: readonly ProjectedEvent[]) =>
  inOne((transaction) => dashboard.apply(transaction, events))

/** A history whose versions were recorded one a second, from a second of that minute on. */
function recorded(account: string, count: number, second = 0): ProjectedEvent[] {
  return historyOf(account, count).map((row, index) => {
    const at = new Date(minuteMs + (second + index) * 1_000).toISOString().replace('Z', '000Z')
    const event = projected(row)
    return { ...event, event: { ...event.event, at } }
  })
}

const movements = async (nowMs = soonAfter) => (await readDashboard(reader, nowMs)).movements
const sum = (counts: readonly number[]) => counts.reduce((all, count) => all + count, 0)

test('before anything happened there is a dashboard, of nothing', async () => {
  const { accounts, money, tiers: none, version, asOf } = await readDashboard(reader)
  expect({ accounts, money, none, version, asOf }).toEqual({
    accounts: { open: 0, closed: 0 },
    money: [],
    none: [],
    version: 0,
    asOf: null,
  })
  const { lastSecond, lastMinute, seconds, minutes } = await movements()
  expect([lastSecond, lastMinute, sum(seconds.counts), sum(minutes.counts)]).toEqual([0, 0, 0, 0])
  expect([seconds.counts.length, minutes.counts.length]).toEqual([60, 60])
})

const one = recorded('one', 11, 10)

test('movements are counted in the second and the minute in which they were recorded', async () => {
  // Ten movements behind the opening, from second 11 on, and as many on another account.
  await apply([...one, ...recorded('other', 11, 10)])
  const { lastSecond, lastMinute, seconds, minutes } = await movements()
  expect(seconds.from).toBe(new Date(minuteMs).toISOString())
  expect(seconds.counts.slice(9, 23)).toEqual([0, 0, ...Array<number>(10).fill(2), 0, 0])
  expect([lastSecond, lastMinute, minutes.counts.at(-1)]).toEqual([0, 20, 20])
  const later = await movements(() => minuteMs + 31 * 1_000)
  expect([later.lastMinute, later.minutes.counts.at(-1)]).toEqual([20, 0])
})

test('a forgotten account is out of each second, and a rebuilt one is in it once', async () => {
  const before = await movements()
  const events = recorded('rebuilt', 9)
  await apply(events.slice(0, 5))
  await apply(events.slice(5))
  expect((await movements()).lastMinute).toBe(before.lastMinute + 8)
  await inOne((transaction) => dashboard.forget(transaction, 'rebuilt'))
  expect(await movements()).toEqual(before)
  await apply(recorded('rebuilt', 6))
  expect((await movements()).lastMinute).toBe(before.lastMinute + 5)
})

test('what is too old to be shown counts as an event, and leaves nothing else', async () => {
  const events = historyOf('old', 300).map(projected)
  await apply(events)
  const { rows } = await pool.query<{ rows: number; recent: string }>(
    `select (select count(*)::int from read.dashboard_tallies where starts_at < '2026-06-01'
          and seconds > 0) as rows,
        (select recent::text from read.dashboard_heads where account_id = 'old') as recent`,
  )
  expect(rows[0]).toEqual({ rows: 0, recent: '[]' })
})

test('buckets that are no longer shown are deleted with the next batch', async () => {
  await pool.query(
    `insert into read.dashboard_tallies (slot, seconds, starts_at, movements, events)
      select slot, 1, now() - interval '1 hour' + slot * interval '1 second', 1, 0
      from generate_series(1, 32) as slot`,
  )
  await apply(recorded('pruning', 1))
  const { rows } = await pool.query<{ count: number }>(
    `select count(*)::int as count from read.dashboard_tallies
      where seconds = 1 and starts_at < now() - interval '10 minutes'`,
  )
  expect(rows[0]!.count).toBe(0)
})

test('the dashboard says what totals and tiers say, as new as the oldest of them', async () => {
  const events = recorded('whole', 4)
  await inOne((transaction) => totals.apply(transaction, events))
  await inOne((transaction) => tiers.apply(transaction, events.slice(0, 3)))
  const shown = await readDashboard(reader)
  expect(shown).toMatchObject({
    accounts: { open: 1, closed: 0 },
    money: [{ currency: 'EUR', ledgerBalance: '30', held: '0', available: '30' }],
    version: 3,
    asOf: new Date(minuteMs + 2_000).toISOString(),
  })
  expect(shown.tiers).toMatchObject([
    { from: null, to: '0', count: 0 },
    { from: '0', to: '10000', count: 1, total: '20' },
    { count: 0 },
    { from: '100000', to: null, count: 0 },
  ])
})

test('of a story with every type of event, the counts are those of a fold in memory', async () => {
  const events = storyOf(24).map(projected)
  for (let from = 0; from < events.length; from += 70) await apply(events.slice(from, from + 70))
  const fold = new Map<string, number>()
  for (const { event } of events) {
    if (!/^Funds|^HoldCaptured|^TransactionReversed/.test(event.type)) continue
    for (const [seconds, part] of [
      [1, 'second'],
      [60, 'minute'],
    ] as const) {
      const bucket = `${seconds} ${event.at.slice(0, part === 'second' ? 19 : 16)}`
      fold.set(bucket, (fold.get(bucket) ?? 0) + 1)
    }
  }
  const { rows } = await pool.query<{ seconds: number; at: Date; movements: number }>(
    `select seconds, starts_at as at, sum(movements)::int as movements from read.dashboard_tallies
      where starts_at > '2099-01-01' group by seconds, starts_at`,
  )
  const counted = rows.map(({ seconds, at, movements }): [string, number] => [
    `${seconds} ${at.toISOString().slice(0, seconds === 1 ? 19 : 16)}`,
    movements,
  ])
  expect(new Map(counted)).toEqual(fold)
})
