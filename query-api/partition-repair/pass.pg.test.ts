import { randomUUID } from 'node:crypto'
import { partitionOf } from 'kafka/partition'
import { testDatabases } from 'local-stack/test-databases'
import type { OutboxRow } from 'outbox-relay/wire'
import { openLog } from 'service/log'
import { afterAll, afterEach, expect, test } from 'vitest'
import { accounts } from '../projections/accounts.ts'
import { applyChunk } from '../chunk.ts'
import { ensureOffsets, readOffsets } from '../offsets.ts'
import { putEntries } from '../quarantine/entries.ts'
import { type Feed, openFeed } from '../quarantine/feed.ts'
import { repairAccount } from '../quarantine/repair.ts'
import { Repairer } from '../quarantine/repairer.ts'
import { openTestFeed } from '../quarantine/test-feed.ts'
import { newStatus } from '../status.ts'
import { offsetFault } from '../stop-reason.ts'
import { consumed, eventRow, historyOf } from '../test-events.ts'
import { isFoldOf, quarantined } from '../test-pipe.ts'
import { repairPartitions } from './pass.ts'
import { putStop, readStops, type Stop } from './stops.ts'
import { openProjectorPool } from '../test-pools.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(openProjectorPool(databases, { maxConnections: 6 }))
const commandApi = cleanup.use(await openTestFeed(databases))
const realFeed = openFeed(commandApi)
afterAll(() => cleanup.disposeAsync())
afterEach(async () => {
  await pool.query('delete from read.quarantine')
  await pool.query('delete from read.accounts')
})

/** One partition of a log made anew, that was read up to offset 7 before. */
async function stoppedLog({ rows = [], name = 'new' }: { rows?: OutboxRow[]; name?: string } = {}) {
  const topic = `${name}-${randomUUID()}`
  const [before, found] = [randomUUID(), randomUUID()]
  const status = newStatus('accounts', { topic, groupId: topic })
  const place = { projection: 'accounts', topic, partition: 0 }
  await ensureOffsets(pool, { ...place, topicId: before }, [0])
  await pool.query('update read.offsets set next_offset = 7 where topic = $1', [topic])
  const fault = offsetFault({ topicId: before, next: 7n }, found, { low: 0n, high: 0n })!
  await putStop(pool, place, { ...fault, topicId: before, foundTopicId: found })
  const log = {
    status,
    rows: [...rows],
    stop: async (): Promise<Stop | undefined> => (await readStops(pool, status)).get(0),
    /** What the partition's owner does from an offset on. */
    consume: async (from: bigint) => {
      const records = log.rows.map((row, index) => consumed(row, BigInt(index)))
      const chunk = { topic, partition: 0, fetchOffset: from, records: records.slice(Number(from)) }
      return applyChunk({ pool, projection: accounts, topicId: found }, chunk)
    },
    offset: async () => (await readOffsets(pool, status)).map(({ next }) => next)[0],
    found,
  }
  return log
}

type Log = Awaited<ReturnType<typeof stoppedLog>>

async function pass(log: Log, { feed = realFeed, high = log.rows.length }: Options = {}) {
  const { signal } = new AbortController()
  const { status } = log
  const shared = { pool, projection: accounts, feed, status, signal }
  const repairer = new Repairer({ ...shared, log: openLog('query-api', 'silent') })
  const stop = await log.stop()
  const done = await repairPartitions(
    {
      ...shared,
      repairAccount: (account) => repairer.attempt(account),
      onQuarantined: () => {},
    },
    new Map([[0, { low: 0n, high: BigInt(high) }]]),
    stop === undefined ? [] : [stop],
  )
  return done.map(({ start, compared, differing }) => ({ start, compared, differing }))
}

type Options = { feed?: Feed; high?: number }

/** The feed, with something that happens once it was first asked. */
function withArrival(arrive: () => Promise<unknown>): Feed {
  let arrived: Promise<unknown> | undefined
  return {
    ...realFeed,
    heads: async (...asked) => {
      const page = await realFeed.heads(...asked)
      await (arrived ??= arrive())
      return page
    },
  }
}

test('accounts behind, of another history and unknown here are brought up; the others stay', async () => {
  const names = ['behind', 'other', 'unknown', 'same'].map((name) => `${name}-${randomUUID()}`)
  const histories = names.map((name) => historyOf(name, 3))
  await commandApi.record(histories.flat())
  const [behind, other, , same] = histories as [OutboxRow[], OutboxRow[], OutboxRow[], OutboxRow[]]
  const sound = await stoppedLog()
  await pass(sound)
  await pool.query('delete from read.accounts where not id = any($1)', [[names[3]]])
  sound.rows.push(...behind.slice(0, 1), ...other.slice(0, 2))
  sound.rows.push(eventRow(names[1]!, 3, { balance: '555' }))
  await sound.consume(0n)
  expect(await isFoldOf(pool, [same])).toBe(true)
  expect(await isFoldOf(pool, [other])).toBe(false)
  const log = await stoppedLog()
  const { compared, differing } = (await pass(log))[0]!
  expect(await isFoldOf(pool, histories)).toBe(true)
  expect(compared).toBeGreaterThanOrEqual(4)
  expect(differing).toBe(compared - 1)
  expect([await quarantined(pool), await log.stop()]).toEqual([{}, undefined])
})

test('an account that the feed does not know is named, kept, and its partition goes on', async () => {
  const strange = `strange-${randomUUID()}`
  const before = await stoppedLog()
  await pass(before)
  before.rows.push(...historyOf(strange, 2))
  await before.consume(0n)
  const log = await stoppedLog()
  expect(await pass(log)).toMatchObject([{ start: 0n, differing: 1 }])
  expect(await quarantined(pool)).toEqual({ [strange]: 'version_conflict' })
  const { rows } = await pool.query<{ problem: string }>('select problem from read.quarantine')
  expect(rows).toEqual([{ problem: 'unknown_to_feed' }])
  expect((await accounts.heads(pool, [strange])).get(strange)).toMatchObject({ version: 2 })
  // As an operator's skip does.
  await pool.query('update read.quarantine set highest = 0, skip_through = 2')
  const { signal } = new AbortController()
  await repairAccount({ pool, projection: accounts, feed: realFeed, signal }, strange)
  expect([await quarantined(pool), (await accounts.heads(pool, [strange])).size]).toEqual([{}, 0])
})

/** The feed as it was before version 3, which then goes through the log. */
async function arrivalOf3(high: number) {
  const id = `late-${randomUUID()}`
  const history = historyOf(id, 3)
  await commandApi.record(history.slice(0, 2))
  const log = await stoppedLog({ rows: history.slice(0, 1) })
  const feed: Feed = {
    ...withArrival(async () => {
      await commandApi.record(history.slice(2))
      log.rows.push(...history.slice(2))
    }),
    accountEvents: async (account, from) => {
      const page = await realFeed.accountEvents(account, from)
      return { ...page, events: page.events.filter((event) => event.id !== history[2]![1]) }
    },
  }
  const { start } = (await pass(log, { feed, high }))[0]!
  if (start < 2n) await log.consume(start)
  return { isWhole: await isFoldOf(pool, [history]), entry: (await quarantined(pool))[id] }
}

test('an event that comes while the feed is asked is read from the log afterwards', async () => {
  expect(await arrivalOf3(1)).toEqual({ isWhole: true, entry: undefined })
})

test('an end noted after the feed was asked passes over it: the test above is not blind', async () => {
  expect(await arrivalOf3(2)).toEqual({ isWhole: false, entry: undefined })
})

test('an owner that was paused in the middle and replaced changes nothing when it wakes', async () => {
  const id = `zombie-${randomUUID()}`
  const history = historyOf(id, 4)
  await commandApi.record(history)
  const log = await stoppedLog({ rows: history.slice(0, 3) })
  const feed = withArrival(async () => {
    expect(await pass(log)).toMatchObject([{ start: 3n }])
    log.rows.push(...history.slice(3))
    expect(await log.consume(3n)).toMatchObject({ kind: 'applied', next: 4n })
  })
  expect(await pass(log, { feed })).toEqual([])
  expect([await log.offset(), await quarantined(pool)]).toEqual([4n, {}])
  expect(await isFoldOf(pool, [history])).toBe(true)
})

test('a pass that fails in the middle leaves the partition stopped, and the next one finishes', async () => {
  const histories = Array.from({ length: 5 }, () => historyOf(`half-${randomUUID()}`, 2))
  await commandApi.record(histories.flat())
  const log = await stoppedLog()
  const failing: Feed = {
    ...realFeed,
    heads: async (after, signal) => {
      if (after !== null) throw new Error('the process ends here')
      const page = await realFeed.heads(null, signal)
      const half = page.heads.slice(0, Math.ceil(page.heads.length / 2))
      return { heads: half, next: half.at(-1)!.account }
    },
  }
  await expect(pass(log, { feed: failing })).rejects.toThrow('the process ends here')
  expect([await log.offset(), (await log.stop())?.code]).toEqual([7n, 'topic_recreated'])
  expect(await pass(log)).toMatchObject([{ start: 0n }])
  expect(await isFoldOf(pool, histories)).toBe(true)
})

test('an account in quarantine already does not leave it below what the feed had', async () => {
  const id = `known-${randomUUID()}`
  const history = historyOf(id, 5)
  await commandApi.record(history)
  const log = await stoppedLog()
  const entry = { account: id, code: 'version_gap', detail: '', wanted: 1, seen: 2, highest: 2 }
  await putEntries(pool, { projection: 'accounts', topic: 't', partition: 0 }, [
    { ...entry, offset: 1n },
  ])
  const away: Feed = {
    ...realFeed,
    accountEvents: openFeed({ url: 'http://127.0.0.1:9', key: 'k' }).accountEvents,
  }
  expect(await pass(log, { feed: away })).toMatchObject([{ start: 0n }])
  const { rows } = await pool.query(
    'select code, highest::int from read.quarantine where account_id = $1',
    [id],
  )
  expect(rows).toEqual([{ code: 'version_gap', highest: 5 }])
})

test('only the accounts of the stopped partition are compared', async () => {
  const ids = Array.from({ length: 12 }, () => `of-${randomUUID()}`)
  await commandApi.record(ids.flatMap((id) => historyOf(id, 2)))
  const log = await stoppedLog()
  const { signal } = new AbortController()
  const shared = { pool, projection: accounts, feed: realFeed, status: log.status, signal }
  const repairer = new Repairer({ ...shared, log: openLog('query-api', 'silent') })
  const bounds = new Map([0, 1, 2].map((partition) => [partition, { low: 0n, high: 0n }]))
  await repairPartitions(
    { ...shared, repairAccount: (account) => repairer.attempt(account), onQuarantined: () => {} },
    bounds,
    [(await log.stop())!],
  )
  const heads = await accounts.heads(pool, ids)
  for (const id of ids) expect(heads.has(id)).toBe(partitionOf(id, 3) === 0)
})

test('a stop that somebody has repaired meanwhile is not noted again', async () => {
  const log = await stoppedLog()
  const stale = (await log.stop())!
  await pass(log)
  const place = { projection: 'accounts', topic: log.status.topic, partition: 0 }
  expect(await putStop(pool, place, { ...stale, offset: stale.next })).toBe(false)
  expect(await log.stop()).toBeUndefined()
})

test('a topic made anew once more is a new stop, which nobody has asked to repair', async () => {
  const log = await stoppedLog()
  await pool.query('update read.stopped_partitions set asked_at = now() where topic = $1', [
    log.status.topic,
  ])
  const stop = (await log.stop())!
  expect(stop.asked).toBe(true)
  const place = { projection: 'accounts', topic: log.status.topic, partition: 0 }
  await putStop(pool, place, { ...stop, offset: stop.next })
  expect((await log.stop())?.asked).toBe(true)
  await putStop(pool, place, { ...stop, offset: stop.next, foundTopicId: randomUUID() })
  expect((await log.stop())?.asked).toBe(false)
})
