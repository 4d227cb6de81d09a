import { testDatabases } from 'local-stack/test-databases'
import type { OutboxRow } from 'outbox-relay/wire'
import { afterAll, expect, test } from 'vitest'
import { accounts } from '../projections/accounts.ts'
import { applyChunk, type ChunkOutcome } from '../chunk.ts'
import { consumed, eventRow, historyOf, projected, unstorableBalance } from '../test-events.ts'
import { openProjectorPool, openReaderPool } from '../test-pools.ts'
import { inTransaction } from '../transaction.ts'
import { findEntry } from './entries.ts'
import { type Feed, openFeed } from './feed.ts'
import { repairAccount } from './repair.ts'
import { openTestFeed } from './test-feed.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(openProjectorPool(databases))
const reader = cleanup.use(openReaderPool(databases))
const commandApi = cleanup.use(await openTestFeed(databases))
const feed = openFeed(commandApi)
afterAll(() => cleanup.disposeAsync())

const topicId = '00000000-0000-4000-8000-000000000000'
const next = new Map<string, bigint>()

/** Delivers rows as the next records of the account's own topic. */
async function deliver(account: string, ...rows: OutboxRow[]): Promise<ChunkOutcome> {
  const fetchOffset = next.get(account) ?? 0n
  next.set(account, fetchOffset + BigInt(rows.length))
  const records = rows.map((row, index) => consumed(row, fetchOffset + BigInt(index)))
  const chunk = { topic: `topic-of-${account}`, partition: 0, fetchOffset, records }
  return applyChunk({ pool, projection: accounts, topicId }, chunk)
}

const repair = (account: string, from: Feed = feed) =>
  repairAccount(
    { pool, projection: accounts, feed: from, signal: new AbortController().signal },
    account,
  )

const entryOf = (account: string) =>
  findEntry(pool, { projection: accounts.name, account, lock: false })

async function rowOf(account: string) {
  const { rows } = await pool.query<Record<string, unknown>>(
    `select version::int, ledger_balance::int as balance, last_event_id as last
      from read.accounts where id = $1`,
    [account],
  )
  return rows[0]
}

/** What the account must be: every event of the history applied to an empty read model. */
const foldOf = (history: readonly OutboxRow[]) => {
  const { id, version, event } = projected(history.at(-1)!)
  return { version, balance: Number(event.payload.after.ledgerBalance), last: id }
}

test('a gap is filled from the feed, and the account goes on from the log', async () => {
  const history = historyOf('gap', 7)
  await commandApi.record(history)
  await deliver('gap', ...history.slice(0, 2), ...history.slice(3, 6))
  expect(await entryOf('gap')).toMatchObject({ code: 'version_gap', wanted: 3, highest: 6 })
  expect(await repair('gap')).toMatchObject({ kind: 'released', applied: 5, version: 7 })
  expect(await entryOf('gap')).toBeUndefined()
  expect(await deliver('gap', history[6]!)).toMatchObject({ applied: 0, duplicates: 1, held: 0 })
  expect(await rowOf('gap')).toEqual(foldOf(history))
})

test('an event that arrives during the repair, and none after it, is not lost', async () => {
  const history = historyOf('late', 6)
  await commandApi.record(history.slice(0, 5))
  await deliver('late', history[0]!, history[2]!)
  const slow: Feed = {
    ...feed,
    accountEvents: async (...asked) => {
      const page = await feed.accountEvents(...asked)
      await commandApi.record(history.slice(5))
      await deliver('late', history[5]!)
      return page
    },
  }
  expect(await repair('late', slow)).toMatchObject({
    kind: 'waits',
    problem: { code: 'feed_behind', soon: true },
  })
  expect(await entryOf('late')).toMatchObject({ highest: 6 })
  expect(await rowOf('late')).toEqual(foldOf(history.slice(0, 5)))
  expect(await repair('late')).toMatchObject({ kind: 'released', version: 6 })
  expect(await rowOf('late')).toEqual(foldOf(history))
})

test('an event that arrives while the release commits is applied by the log itself', async () => {
  const history = historyOf('meanwhile', 5)
  await commandApi.record(history.slice(0, 4))
  await deliver('meanwhile', history[0]!, history[2]!)
  let delivered: Promise<ChunkOutcome> | undefined
  const projection = {
    ...accounts,
    // Asked for by the release once the entry is locked; the chunk then waits for that lock.
    heads: async (transaction: Parameters<typeof accounts.heads>[0], ids: readonly string[]) => {
      const heads = await accounts.heads(transaction, ids)
      if (heads.get('meanwhile')?.version === 4) {
        delivered = deliver('meanwhile', history[4]!)
        await expect
          .poll(async () => {
            const { rows } = await pool.query(
              `select from pg_stat_activity where wait_event_type = 'Lock'
                and query like '%read.quarantine%' and datname = current_database()`,
            )
            return rows.length
          })
          .toBe(1)
      }
      return heads
    },
  }
  const { signal } = new AbortController()
  const outcome = await repairAccount({ pool, projection, feed, signal }, 'meanwhile')
  expect(outcome).toMatchObject({ kind: 'released', version: 4 })
  expect(await delivered).toMatchObject({ applied: 1, held: 0 })
  expect(await rowOf('meanwhile')).toEqual(foldOf(history))
  expect(await entryOf('meanwhile')).toBeUndefined()
})

test('a history that contradicts the feed is replaced by it from version 1', async () => {
  const truth = historyOf('conflict', 5)
  const other = [...truth.slice(0, 2), eventRow('conflict', 3, { balance: '999' })]
  await commandApi.record(truth)
  await deliver('conflict', ...other)
  expect(await accounts.versions(reader, ['conflict'])).toEqual(new Map([['conflict', 3]]))
  await deliver('conflict', truth[2]!, truth[3]!)
  expect(await entryOf('conflict')).toMatchObject({ code: 'version_conflict', highest: 4 })
  // No version of it can be called fresh before it is restored.
  expect(await accounts.versions(reader, ['conflict'])).toEqual(new Map([['conflict', 0]]))
  expect(await repair('conflict')).toMatchObject({ kind: 'released', restored: true, applied: 5 })
  expect(await rowOf('conflict')).toEqual(foldOf(truth))
})

test('a gap over a history that is another than the feed`s turns out as a conflict', async () => {
  const truth = historyOf('hidden', 4)
  await commandApi.record(truth)
  await deliver('hidden', truth[0]!, eventRow('hidden', 2, { balance: '999' }), truth[3]!)
  expect(await repair('hidden')).toMatchObject({
    kind: 'waits',
    problem: { code: 'version_conflict' },
  })
  expect(await repair('hidden')).toMatchObject({ kind: 'released', restored: true })
  expect(await rowOf('hidden')).toEqual(foldOf(truth))
})

test('what the feed does not know, or is behind of, stays as it is and in quarantine', async () => {
  const stray = historyOf('stray', 3)
  await deliver('stray', stray[0]!, stray[2]!)
  expect(await repair('stray')).toMatchObject({ problem: { code: 'unknown_to_feed' } })
  const ahead = historyOf('ahead', 6)
  await commandApi.record(ahead.slice(0, 3))
  await deliver('ahead', ahead[0]!, ahead[1]!, ahead[5]!)
  expect(await repair('ahead')).toMatchObject({ problem: { code: 'feed_behind' } })
  expect([await rowOf('stray'), await rowOf('ahead')]).toMatchObject([
    { version: 1 },
    { version: 3 },
  ])
  await deliver('ahead', eventRow('ahead', 3, { balance: '999' }))
  await pool.query(
    `update read.quarantine set code = 'version_conflict' where account_id = 'ahead'`,
  )
  expect(await repair('ahead')).toMatchObject({ problem: { code: 'feed_behind' } })
  expect(await rowOf('ahead')).toEqual(foldOf(ahead.slice(0, 3)))
  await commandApi.record(ahead.slice(3))
  expect(await repair('ahead')).toMatchObject({ kind: 'released', version: 6, restored: true })
})

test('an event that cannot be stored keeps its account; a skip leaves it out', async () => {
  const history = historyOf('poison', 6).map((row, index) =>
    index === 3 ? eventRow('poison', 4, { balance: unstorableBalance }) : row,
  )
  await commandApi.record(history.slice(0, 4))
  await deliver('poison', ...history.slice(0, 4))
  expect(await entryOf('poison')).toMatchObject({ code: 'apply_failed', highest: 4 })
  expect(await repair('poison')).toMatchObject({ problem: { code: 'apply_failed' } })
  const skip = `update read.quarantine set skip_through = highest, highest = 0 where account_id = $1`
  await pool.query(skip, ['poison'])
  // As the last event, nothing yet says what the account is after it.
  expect(await repair('poison')).toMatchObject({ problem: { code: 'waits_for_next_event' } })
  expect(await rowOf('poison')).toMatchObject({ version: 3 })
  await commandApi.record(history.slice(4))
  await deliver('poison', history[4]!)
  expect(await repair('poison')).toMatchObject({ kind: 'released', version: 6 })
  expect(await rowOf('poison')).toEqual(foldOf(history))
})

test('two repairs of one account at once: one of them does it', async () => {
  const history = historyOf('twice', 40)
  await commandApi.record(history)
  await deliver('twice', history[0]!, history[39]!)
  const outcomes = await Promise.all([repair('twice'), repair('twice'), repair('twice')])
  expect(outcomes.filter(({ kind }) => kind === 'released')).toHaveLength(1)
  expect(await rowOf('twice')).toEqual(foldOf(history))
})

test('without a usable feed nothing changes, and the entry says why', async () => {
  const history = historyOf('away', 3)
  await deliver('away', history[0]!, history[2]!)
  const nobody = openFeed({ url: 'http://127.0.0.1:1', key: 'x' })
  expect(await repair('away', nobody)).toMatchObject({ problem: { code: 'feed_unreachable' } })
  const stranger = openFeed({ url: commandApi.url, key: 'not-a-key' })
  expect(await repair('away', stranger)).toMatchObject({ problem: { code: 'feed_refused' } })
  const { rows } = await inTransaction(pool, 5_000, (transaction) =>
    transaction.query(`select problem from read.quarantine where account_id = 'away'`),
  )
  expect(rows).toEqual([{ problem: 'feed_refused' }])
})
