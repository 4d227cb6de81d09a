import { testDatabases } from 'local-stack/test-databases'
import { afterAll, expect, test } from 'vitest'
import { findAccount } from './accounts-reads.ts'
import { accounts } from './accounts.ts'
import type { ProjectedEvent } from '../projection.ts'
import { eventRow, historyOf, interleave, outboxRow, projected, timeOf } from '../test-events.ts'
import { openProjectorPool, openReaderPool } from '../test-pools.ts'
import { storyOf } from '../test-story.ts'
import { inTransaction } from '../transaction.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(openProjectorPool(databases))
const reader = cleanup.use(openReaderPool(databases))
afterAll(() => cleanup.disposeAsync())

const apply = (events: readonly ProjectedEvent[]) =>
  inTransaction(pool, 10_000, (transaction) => accounts.apply(transaction, events))

test('a row is the account as its last event left it, amounts as strings of digits', async () => {
  await apply(historyOf('row-1', 3).map(projected))
  expect((await findAccount(reader, 'row-1'))?.account).toEqual({
    id: 'row-1',
    owner: 'Zoë "quoted" \\ Müller, {1}',
    currency: 'EUR',
    exponent: 2,
    type: 'current',
    status: 'open',
    freeze: null,
    ledgerBalance: '20',
    held: '0',
    available: '20',
    overdraftLimit: '0',
    metadata: { tag: '"a",{b}' },
    version: 3,
    openedAt: timeOf(1).replace('000Z', 'Z'),
    asOf: timeOf(3).replace('000Z', 'Z'),
  })
})

test('the largest balances keep every digit', async () => {
  const balance = '-999999999999999999'
  await apply([eventRow('large', 1), eventRow('large', 2, { balance })].map(projected))
  expect((await findAccount(reader, 'large'))?.account).toMatchObject({ ledgerBalance: balance })
})

test('a batch of many accounts, new and old, is folded per account', async () => {
  const names = Array.from({ length: 300 }, (_, index) => `many-${index}`)
  const histories = names.map((name) => historyOf(name, 7).map(projected))
  const events = interleave(histories)
  expect(await apply(events.slice(0, 1_000))).toEqual({
    applied: 1_000,
    duplicates: 0,
    refusals: [],
  })
  expect(await apply(events.slice(900))).toEqual({ applied: 1_100, duplicates: 100, refusals: [] })
  const versions = await accounts.versions(reader, [...names, 'unknown'])
  expect(versions.size).toBe(300)
  expect(new Set(versions.values())).toEqual(new Set([7]))
  for (const name of [names[0]!, names[150]!, names[299]!]) {
    expect((await findAccount(reader, name))?.account).toMatchObject({ ledgerBalance: '60' })
  }
})

test('an account that is closed says so', async () => {
  const after = { version: 2, ledgerBalance: '0', held: '0', available: '0', status: 'closed' }
  const closed = outboxRow({
    account: 'closed',
    version: 2,
    type: 'AccountClosed.v1',
    at: timeOf(2),
    payload: { accountId: 'closed', after },
  })
  await apply([eventRow('closed', 1), closed].map(projected))
  expect((await findAccount(reader, 'closed'))?.account).toMatchObject({
    status: 'closed',
    version: 2,
  })
})

test('up to a gap everything is applied, and nothing from it on', async () => {
  const whole = historyOf('gap', 5).map(projected)
  const other = historyOf('beside', 3).map(projected)
  const batch = [...other.slice(0, 2), whole[0]!, whole[1]!, whole[3]!, other[2]!, whole[4]!]
  expect(await apply(batch)).toEqual({
    applied: 5,
    duplicates: 0,
    refusals: [
      {
        code: 'version_gap',
        index: 4,
        account: 'gap',
        wanted: 3,
        seen: 4,
        highest: 5,
        held: 2,
      },
    ],
  })
  expect(await accounts.versions(reader, ['gap', 'beside'])).toEqual(
    new Map([
      ['gap', 2],
      ['beside', 3],
    ]),
  )
})

test('another event under a version that was applied is a conflict', async () => {
  await apply(historyOf('conflict', 2).map(projected))
  const { refusals } = await apply([projected(eventRow('conflict', 2, { amount: '11' }))])
  expect(refusals).toMatchObject([{ code: 'version_conflict', account: 'conflict', seen: 2 }])
})

test('the role that answers queries can write nothing', async () => {
  const denied = { code: '42501' }
  const { rows } = await pool.query<{ name: string }>(
    `select table_name as name from information_schema.tables where table_schema = 'read'`,
  )
  expect(rows.length).toBeGreaterThanOrEqual(3)
  for (const { name } of rows) {
    await expect(reader.query(`delete from read.${name}`)).rejects.toMatchObject(denied)
    await expect(reader.query(`insert into read.${name} default values`)).rejects.toMatchObject(
      denied,
    )
  }
  await expect(reader.query(`update read.accounts set held = 1`)).rejects.toMatchObject(denied)
})

test('of a story with every type of event, the rows are those of a fold in memory', async () => {
  const events = storyOf(21).map(projected)
  await apply(events)
  const fold = new Map<string, Record<string, unknown>>()
  for (const { account, version, id, event } of events) {
    const { type, at, payload } = event
    const { ledgerBalance: ledger_balance, held, available, status } = payload.after
    const row = fold.get(account) ?? { id: account, frozen: null, opened_at: new Date(at) }
    const head = { version: String(version), last_event_id: id, as_of: new Date(at) }
    Object.assign(row, head, { ledger_balance, held, available, status })
    if (type === 'AccountOpened.v1') {
      const { currency, exponent } = payload
      Object.assign(row, { currency, exponent, type: payload.type })
    }
    if ('owner' in payload) Object.assign(row, { owner: payload.owner, metadata: payload.metadata })
    if ('overdraftLimit' in payload) row['overdraft_limit'] = payload.overdraftLimit
    if (type === 'AccountFrozen.v1') row['frozen'] = payload.scope
    if (type === 'AccountUnfrozen.v1') row['frozen'] = null
    fold.set(account, row)
  }
  const { rows } = await pool.query(`select * from read.accounts where id like 'story-%'`)
  expect(new Map(rows.map((row) => [row.id, row]))).toEqual(fold)
})
