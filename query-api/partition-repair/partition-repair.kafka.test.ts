import { randomUUID } from 'node:crypto'
import { topicOffsets } from 'kafka/admin'
import { partitionOf } from 'kafka/partition'
import { truncateTopic } from 'kafka/test-topics'
import { testBrokers, testDatabases } from 'local-stack/test-databases'
import type { OutboxRow } from 'outbox-relay/wire'
import { afterAll, expect, onTestFinished, test, vi } from 'vitest'
import { type Feed, openFeed } from '../quarantine/feed.ts'
import { openTestFeed } from '../quarantine/test-feed.ts'
import type { ProjectionStatus } from '../status.ts'
import { historyOf, interleave } from '../test-events.ts'
import { spawnProjector } from '../test-faults.ts'
import { isFoldOf, openTestPipe, patient, quarantined } from '../test-pipe.ts'
import { openProjectorPool } from '../test-pools.ts'
import { inTransaction } from '../transaction.ts'
import { askForRepair } from './stops.ts'

const brokers = testBrokers()
const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const url = databases.read('sluice_projector')
const pool = cleanup.use(openProjectorPool(databases, { maxConnections: 12 }))
const commandApi = cleanup.use(await openTestFeed(databases))
const feed = openFeed(commandApi)
afterAll(() => cleanup.disposeAsync())

type Histories = OutboxRow[][]

/** Of accounts that are spread evenly over the three partitions. */
const newHistories = (count: number, versions: number): Histories =>
  Array.from({ length: count }, (_, index) => {
    let id = randomUUID()
    while (partitionOf(id, 3) !== index % 3) id = randomUUID()
    return historyOf(id, versions)
  })

/** Versions `from` to `through` of every account, as they would come. */
const part = (histories: Histories, from: number, through: number) =>
  interleave(histories.map((history) => history.slice(from - 1, through)))

const upTo = (histories: Histories, version: number) =>
  histories.map((history) => history.slice(0, version))

const reached = (histories: Histories, version: number) =>
  vi.waitUntil(
    async () =>
      (await isFoldOf(pool, upTo(histories, version))) &&
      Object.keys(await quarantined(pool)).length === 0,
    patient,
  )

type Pipe = Awaited<ReturnType<typeof openTestPipe>>

/** Every partition's records are gone, but for the last one. */
async function deleteRecords({ topic }: Pipe): Promise<void> {
  for (const [partition, { high }] of await topicOffsets({ brokers, topic })) {
    await truncateTopic(brokers, { topic, partition, below: high - 1n })
  }
}

const stoppedFor = (status: ProjectionStatus, code: string) =>
  vi.waitUntil(
    () =>
      status.stopped.size === 3 && [...status.stopped.values()].every((stop) => stop.code === code),
    patient,
  )

async function askForAll({ topic }: Pipe): Promise<void> {
  for (const partition of [0, 1, 2]) {
    await inTransaction(pool, 5_000, (transaction) =>
      askForRepair(transaction, { projection: 'accounts', topic, partition }),
    )
  }
}

const storedOffsets = async ({ topic }: Pipe) => {
  const { rows } = await pool.query<{ at: string }>(
    `select format('%s %s', topic_id, next_offset) as at from read.offsets
      where topic = $1 order by partition`,
    [topic],
  )
  return rows.map(({ at }) => at)
}

test('records deleted before they were read: brought up to the feed at once, and alarmed', async () => {
  const pipe = await openTestPipe(pool)
  const histories = newHistories(30, 6)
  await commandApi.record(part(histories, 1, 4))
  await pipe.publish(part(histories, 1, 2))
  const first = pipe.start()
  await reached(histories, 2)
  await first.stop()
  await pipe.publish(part(histories, 3, 4))
  await deleteRecords(pipe)
  const { status } = pipe.start({ feed })
  await reached(histories, 4)
  await vi.waitUntil(() => status.repaired.get('offset_below_log') === 3, patient)
  expect(status.stops.get('offset_below_log')).toBeGreaterThanOrEqual(3)
  expect(status.quarantine.entered.get('lost_tail')).toBe(30)
  await commandApi.record(part(histories, 5, 6))
  await pipe.publish(part(histories, 5, 6))
  await reached(histories, 6)
  expect([status.stopped.size, status.repairs.size]).toEqual([0, 0])
})

test('without the feed a stopped partition stays so, over restarts, and says what to set', async () => {
  const pipe = await openTestPipe(pool)
  const histories = newHistories(12, 3)
  await pipe.publish(part(histories, 1, 3))
  await deleteRecords(pipe)
  for (let round = 0; round < 2; round += 1) {
    const { status, stop } = pipe.start()
    await stoppedFor(status, 'offset_below_log')
    await vi.waitUntil(() => status.repairs.get(2)?.includes('COMMAND_API_KEY') ?? false, patient)
    await stop()
  }
  expect(await isFoldOf(pool, histories)).toBe(false)
})

test('a silent reset would miss them, and nobody would know: the tests above are not blind', async () => {
  const pipe = await openTestPipe(pool)
  const histories = newHistories(12, 3)
  await commandApi.record(part(histories, 1, 3))
  await pipe.publish(part(histories, 1, 3))
  await deleteRecords(pipe)
  const first = pipe.start()
  await stoppedFor(first.status, 'offset_below_log')
  await first.stop()
  for (const [partition, { high }] of await topicOffsets({ brokers, topic: pipe.topic })) {
    await pool.query(
      'update read.offsets set next_offset = $3 where topic = $1 and partition = $2',
      [pipe.topic, partition, high],
    )
  }
  const { status } = pipe.start({ feed })
  await vi.waitUntil(
    () => status.lags.size === 3 && [...status.lags.values()].every(({ events }) => events === 0),
    patient,
  )
  expect(status.stopped.size).toBe(0)
  expect([await isFoldOf(pool, histories), await quarantined(pool)]).toEqual([false, {}])
})

test.each([
  ['fewer', 6, 6],
  ['more', 1, 6],
])('a topic made anew with %s records: an operator says so first', async (_, from, through) => {
  const pipe = await openTestPipe(pool)
  const histories = newHistories(30, 8)
  await commandApi.record(part(histories, 1, 6))
  await pipe.publish(part(histories, 1, 4))
  const first = pipe.start({ feed })
  await reached(histories, 4)
  await first.stop()
  const before = await storedOffsets(pipe)
  // Version 5 came into the old topic only, and was not read.
  await pipe.recreate()
  await pipe.publish(part(histories, from, through).filter((row) => row[4] !== '5'))
  const { status } = pipe.start({ feed })
  await stoppedFor(status, 'topic_recreated')
  await vi.waitUntil(() => status.repairs.get(1)?.includes('operator') ?? false, patient)
  expect(await isFoldOf(pool, upTo(histories, 4))).toBe(true)
  expect(await storedOffsets(pipe)).toEqual(before)
  await askForAll(pipe)
  await reached(histories, 6)
  await vi.waitUntil(() => status.stopped.size === 0, patient)
  await commandApi.record(part(histories, 7, 8))
  await pipe.publish(part(histories, 7, 8))
  await reached(histories, 8)
  expect(status.repaired.get('topic_recreated')).toBe(3)
})

test('two processes on a topic made anew: each repairs what it has', async () => {
  const pipe = await openTestPipe(pool)
  const histories = newHistories(30, 6)
  await commandApi.record(part(histories, 1, 5))
  await pipe.publish(part(histories, 1, 4))
  const first = pipe.start({ feed })
  await reached(histories, 4)
  await first.stop()
  await pipe.recreate()
  const owners = [pipe.start({ feed }), pipe.start({ feed })]
  const stopped = () => owners.flatMap(({ status }) => [...status.stopped.keys()])
  const shared = () => owners.every(({ status }) => (status.assigned ?? []).length > 0)
  await vi.waitUntil(() => shared() && stopped().length === 3, patient)
  await askForAll(pipe)
  await reached(histories, 5)
  await vi.waitUntil(() => stopped().length === 0, patient)
  await commandApi.record(part(histories, 6, 6))
  await pipe.publish(part(histories, 6, 6))
  await reached(histories, 6)
})

/** The log has lost its tail, which had been read: its end lies before what is stored. */
async function loseTail(pipe: Pipe, records: number): Promise<void> {
  await pool.query('update read.offsets set next_offset = next_offset + $2 where topic = $1', [
    pipe.topic,
    records,
  ])
}

test('a lost tail stays an alarm when the log has grown past it, and is repaired when asked', async () => {
  const pipe = await openTestPipe(pool)
  const histories = newHistories(30, 8)
  await commandApi.record(part(histories, 1, 7))
  await pipe.publish(part(histories, 1, 4))
  const first = pipe.start({ feed })
  await reached(histories, 4)
  await loseTail(pipe, 4)
  await stoppedFor(first.status, 'offset_beyond_log')
  await first.stop()
  // Versions 6 and 7 are written over what was lost and beyond it; version 5 was in the lost tail.
  await pipe.publish(part(histories, 6, 7))
  const { status } = pipe.start({ feed })
  await stoppedFor(status, 'offset_beyond_log')
  await vi.waitUntil(() => status.repairs.size === 3, patient)
  expect(await isFoldOf(pool, upTo(histories, 4))).toBe(true)
  await askForAll(pipe)
  await reached(histories, 7)
  await vi.waitUntil(() => status.stopped.size === 0, patient)
  await commandApi.record(part(histories, 8, 8))
  await pipe.publish(part(histories, 8, 8))
  await reached(histories, 8)
})

test('if the stop were forgotten, the grown log would be gone on from: the test above is not blind', async () => {
  const pipe = await openTestPipe(pool)
  const histories = newHistories(30, 5)
  await commandApi.record(part(histories, 1, 5))
  await pipe.publish(part(histories, 1, 4))
  const first = pipe.start()
  await reached(histories, 4)
  await loseTail(pipe, 20)
  await stoppedFor(first.status, 'offset_beyond_log')
  await first.stop()
  await pool.query('delete from read.stopped_partitions where topic = $1', [pipe.topic])
  const others = newHistories(90, 1)
  await commandApi.record(others.flat())
  await pipe.publish([...part(histories, 5, 5), ...others.flat()])
  const { status } = pipe.start()
  await vi.waitUntil(
    () => status.lags.size === 3 && [...status.lags.values()].every(({ events }) => events === 0),
    patient,
  )
  expect(status.stopped.size).toBe(0)
  expect([await isFoldOf(pool, histories), await quarantined(pool)]).toEqual([false, {}])
})

test('killed with -9 in the middle of the repair: it stays stopped, and begins again', async () => {
  const pipe = await openTestPipe(pool)
  const histories = newHistories(60, 5)
  await commandApi.record(part(histories, 1, 4))
  await pipe.publish(part(histories, 1, 4))
  await deleteRecords(pipe)
  const first = pipe.start()
  await stoppedFor(first.status, 'offset_below_log')
  await first.stop()
  const before = await storedOffsets(pipe)
  const ids = histories.map(([opened]) => opened![3])
  const there = async () =>
    (await pool.query('select from read.accounts where id = any($1)', [ids])).rowCount ?? 0
  for (const some of [5, 20]) {
    const child = spawnProjector({ topic: pipe.topic, brokers, url, commandApi })
    onTestFinished(() => child.kill())
    await vi.waitUntil(async () => (await there()) >= some, { ...patient, interval: 2 })
    await child.kill()
    expect(await storedOffsets(pipe)).toEqual(before)
    expect(await there()).toBeLessThan(60)
  }
  const { status } = pipe.start({ feed })
  await reached(histories, 4)
  await vi.waitUntil(() => status.stopped.size === 0 && status.repaired.size === 1, patient)
  await commandApi.record(part(histories, 5, 5))
  await pipe.publish(part(histories, 5, 5))
  await reached(histories, 5)
})

test('events that arrive during the repair come from the log afterwards', async () => {
  const pipe = await openTestPipe(pool)
  const histories = newHistories(30, 5)
  await commandApi.record(part(histories, 1, 4))
  await pipe.publish(part(histories, 1, 4))
  await deleteRecords(pipe)
  let arrived: Promise<void> | undefined
  const arrive = async () => {
    await commandApi.record(part(histories, 5, 5))
    await pipe.publish(part(histories, 5, 5))
  }
  const slow: Feed = {
    ...feed,
    heads: async (...asked) => {
      const page = await feed.heads(...asked)
      await (arrived ??= arrive())
      return page
    },
  }
  pipe.start({ feed: slow })
  await reached(histories, 5)
})

test('the feed away in the middle: it is said, and the repair begins again', async () => {
  const pipe = await openTestPipe(pool)
  const histories = newHistories(30, 4)
  await commandApi.record(part(histories, 1, 4))
  await pipe.publish(part(histories, 1, 4))
  await deleteRecords(pipe)
  let away = true
  const dead = openFeed({ url: 'http://127.0.0.1:9', key: commandApi.key })
  const wavering: Feed = {
    ...feed,
    heads: (...asked) => (away ? dead : feed).heads(...asked),
  }
  const { status } = pipe.start({ feed: wavering })
  await vi.waitUntil(() => status.repairs.get(0)?.includes('does not answer') ?? false, patient)
  expect(status.stopped.size).toBe(3)
  away = false
  await reached(histories, 4)
  await vi.waitUntil(() => status.stopped.size === 0, patient)
})
