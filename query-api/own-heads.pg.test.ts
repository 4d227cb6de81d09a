import { testDatabases } from 'local-stack/test-databases'
import { openPool } from 'migrations/database'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { nothingCarried, withOwnHeads } from './own-heads.ts'
import type { ProjectedEvent, Projection } from './projection.ts'
import { eventRow, historyOf, interleave, projected } from './test-events.ts'
import { inTransaction } from './transaction.ts'

// Two projections such as README.md shows: one that counts events of each kind, over all accounts, and
// one that sums balances, for which it remembers what each account's was.

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const connection = { applicationName: 'test', maxConnections: 4, onError: () => {} }
const pool = cleanup.use(
  openPool({ ...connection, url: databases.read('sluice_projector'), pipeline: true }),
)
afterAll(() => cleanup.disposeAsync())

beforeAll(async () => {
  await using owner = openPool({ ...connection, url: databases.read('sluice_migrator') })
  await owner.query(`
    create table read.event_kinds_heads (account_id text collate "C" primary key,
      version bigint not null, last_event_id uuid not null);
    create table read.event_kinds (kind text primary key, count bigint not null);
    create table read.sums_heads (account_id text collate "C" primary key,
      version bigint not null, last_event_id uuid not null, balance bigint not null);
    create table read.sums (one bool primary key default true, total bigint not null);
    grant select, insert, update, delete on read.event_kinds_heads, read.event_kinds,
      read.sums_heads, read.sums to sluice_projector`)
})

const eventKinds = withOwnHeads({
  name: 'event-kinds',
  carried: nothingCarried,
  fold(transaction, changes) {
    const kinds = changes.flatMap(({ events }) => events.map(({ event }) => event.type))
    transaction.send({
      text: `insert into read.event_kinds as k select kind, count(*) from unnest($1::text[]) as n(kind)
        group by kind order by kind
        on conflict (kind) do update set count = k.count + excluded.count`,
      values: [kinds],
    })
  },
  forget() {},
})

type State = { balance: string }
const sums = withOwnHeads<State>({
  name: 'sums',
  carried: {
    columns: { balance: 'bigint' },
    after: (_, events) => ({ balance: events.at(-1)!.event.payload.after.ledgerBalance }),
  },
  fold(transaction, changes) {
    const deltas = changes.map(
      ({ before, after }) => BigInt(after.balance) - BigInt(before?.balance ?? 0),
    )
    add(
      transaction,
      deltas.reduce((sum, delta) => sum + delta, 0n),
    )
  },
  forget: (transaction, _, { balance }) => add(transaction, -BigInt(balance)),
})

const add = (transaction: Parameters<Projection['apply']>[0], delta: bigint) =>
  transaction.send({
    text: `insert into read.sums as s (total) values ($1)
      on conflict (one) do update set total = s.total + excluded.total`,
    values: [delta],
  })

const apply = (projection: Projection, events: readonly ProjectedEvent[]) =>
  inTransaction(pool, 10_000, (transaction) => projection.apply(transaction, events))

const total = async () => (await pool.query('select total from read.sums')).rows[0]?.total

test('events that come twice, in one batch or the next, are folded once', async () => {
  const events = interleave(['a', 'b'].map((id) => historyOf(id, 5).map(projected)))
  const result = { duplicates: 0, refusals: [] }
  expect(await apply(eventKinds, events.slice(0, 6))).toEqual({ ...result, applied: 6 })
  const again = { ...result, applied: 4, duplicates: 16 }
  expect(await apply(eventKinds, [...events, ...events])).toEqual(again)
  const { rows } = await pool.query('select kind, count from read.event_kinds order by kind')
  expect(rows).toEqual([
    { kind: 'AccountOpened.v1', count: '2' },
    { kind: 'FundsDeposited.v1', count: '8' },
  ])
  const heads = await eventKinds.heads(pool, ['a', 'b', 'unknown'])
  expect([...heads].map(([account, { version }]) => [account, version])).toEqual([
    ['a', 5],
    ['b', 5],
  ])
})

test('a gap and a conflict are refused, and what comes before them is applied', async () => {
  const whole = historyOf('gap', 4).map(projected)
  const gap = await apply(eventKinds, [whole[0]!, whole[1]!, whole[3]!])
  expect(gap).toMatchObject({ applied: 2, refusals: [{ code: 'version_gap', wanted: 3, seen: 4 }] })
  const other = projected(eventRow('gap', 2, { amount: '11' }))
  const conflict = await apply(eventKinds, [other])
  expect(conflict).toMatchObject({ applied: 0, refusals: [{ code: 'version_conflict' }] })
  expect(await eventKinds.versions(pool, ['gap'])).toEqual(new Map([['gap', 2]]))
})

test('what a row of heads remembers makes deltas right, whatever is passed or forgotten', async () => {
  const events = historyOf('sum', 6).map(projected)
  await apply(sums, events.slice(0, 3))
  await apply(sums, historyOf('beside', 3).map(projected))
  expect(await total()).toBe('40')
  await inTransaction(pool, 10_000, async (transaction) => {
    expect(await sums.pass(transaction, events[4]!)).toBe(false)
    expect(await sums.pass(transaction, events[3]!)).toBe(true)
    expect(await sums.pass(transaction, projected(eventRow('unopened', 1)))).toBe(false)
  })
  await apply(sums, events.slice(4))
  expect(await total()).toBe('70')
  await inTransaction(pool, 10_000, (transaction) => sums.forget(transaction, 'sum'))
  await inTransaction(pool, 10_000, (transaction) => sums.forget(transaction, 'sum'))
  expect(await total()).toBe('20')
  await apply(sums, events)
  expect(await total()).toBe('70')
})

test('an account whose history contradicts the feed counts as version 0 for readers', async () => {
  await apply(sums, historyOf('doubted', 2).map(projected))
  await pool.query(`insert into read.quarantine
      (projection, account_id, code, detail, highest, topic, partition)
    values ('sums', 'doubted', 'version_conflict', '', 2, '', 0),
      ('event-kinds', 'sum', 'version_conflict', '', 2, '', 0)`)
  expect(await sums.versions(pool, ['doubted', 'sum'])).toEqual(
    new Map([
      ['doubted', 0],
      ['sum', 6],
    ]),
  )
})
