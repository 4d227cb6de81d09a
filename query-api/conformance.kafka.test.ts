import { topicOffsets } from 'kafka/admin'
import { truncateTopic } from 'kafka/test-topics'
import { testBrokers, testDatabases } from 'local-stack/test-databases'
import type { OutboxRow } from 'outbox-relay/wire'
import { afterAll, expect, onTestFinished, test, vi } from 'vitest'
import { askForRepair } from './partition-repair/stops.ts'
import { readModels } from './projections/table.ts'
import { openFeed } from './quarantine/feed.ts'
import { openTestFeed } from './quarantine/test-feed.ts'
import type { ProjectionStatus } from './status.ts'
import { projected } from './test-events.ts'
import { withGaps, withLostTails, withOtherHistories } from './test-harm.ts'
import { openTestPipe } from './test-pipe.ts'
import { openProjectorPool } from './test-pools.ts'
import { atLeastOnce, drawsOf, storyOf } from './test-story.ts'
import { allIsWell, openLooks } from './test-view.ts'
import { inTransaction } from './transaction.ts'

// All projections of the table at once on one topic, through what may become of it and of those who
// read it. In the end each says what every event makes of it once, one at a time and in order; until
// then it says who waits, or that a partition stands still.

const brokers = testBrokers()
const cleanup = new AsyncDisposableStack()
afterAll(() => cleanup.disposeAsync())
const emptyPool = cleanup.use(openProjectorPool(cleanup.use(await testDatabases())))
const projections = readModels.map(({ projection }) => projection)
const partitions = [0, 1, 2]
/** Ten projections on two processors, beside a broker and a database. */
const slow = 90_000
const patient = { timeout: 40_000, interval: 100 }

type Rows = readonly OutboxRow[]
type Start = Omit<
  Parameters<Awaited<ReturnType<typeof openTestPipe>>['start']>[0] & {},
  'projection'
>

/** A database of its own, its command side's feed, and a topic with all projections. */
async function newPipe() {
  const owned = new AsyncDisposableStack()
  onTestFinished(() => owned.disposeAsync())
  const databases = owned.use(await testDatabases())
  const pool = owned.use(openProjectorPool(databases, { maxConnections: 20 }))
  const commandApi = owned.use(await openTestFeed(databases))
  const feed = openFeed(commandApi)
  const pipe = await openTestPipe(pool)
  const looks = openLooks({ pool, emptyPool, projections })
  const { topic } = pipe

  function startAll(options: Start = {}) {
    const all = projections.map((projection) => pipe.start({ projection, ...options }))
    const statuses = all.map(({ status }) => status)
    const are = (so: (status: ProjectionStatus) => boolean) =>
      vi.waitUntil(() => statuses.every(so), patient)
    return {
      statuses,
      stop: () => Promise.all(all.map(({ stop }) => stop())),
      sum: (what: 'applied' | 'duplicates') => statuses.reduce((sum, each) => sum + each[what], 0),
      are,
      haveAll: () => are(({ assigned }) => assigned?.length === partitions.length),
      stoppedFor: (code: string) =>
        are(({ stopped }) => partitions.every((each) => stopped.get(each)?.code === code)),
    }
  }

  const look = (rows: Rows, repaired?: Rows) =>
    looks.look(rows.map(projected), new Set(repaired?.map((row) => row[3])))

  const through = (rows: Rows) => {
    const events = rows.map(projected)
    return vi.waitUntil(() => looks.isThrough(events), patient)
  }

  /** How many partitions stand elsewhere than at the end of their log. */
  async function unread(): Promise<number> {
    const ends = await topicOffsets({ brokers, topic })
    const { rows } = await pool.query<{ partition: number; next: string }>(
      'select partition, next_offset as next from read.offsets where topic = $1',
      [topic],
    )
    const read = rows.filter(({ partition, next }) => BigInt(next) === ends.get(partition)!.high)
    return projections.length * partitions.length - read.length
  }

  return {
    ...pipe,
    pool,
    feed,
    sweep: { feed, everyMs: 500, heartbeatSeconds: 0 },
    record: commandApi.record,
    startAll,
    look,
    through,
    /** A sweep that was under way may name somebody once more who is repaired by now. */
    async expectAllWell(rows: Rows, repaired?: Rows): Promise<void> {
      await through(rows)
      const seen = await vi.waitUntil(async () => {
        const found = await look(rows, repaired)
        return found.named.length === 0 && found
      }, patient)
      expect(seen).toEqual(allIsWell)
    },
    isRead: () => vi.waitUntil(async () => (await unread()) === 0, patient),
    moveOffsets: (to: string) =>
      pool.query(`update read.offsets set next_offset = ${to} where topic = $1`, [topic]),
    async askForRepairs(): Promise<void> {
      for (const { name: projection } of projections) {
        for (const partition of partitions) {
          const place = { projection, topic, partition }
          await inTransaction(pool, 5_000, (transaction) => askForRepair(transaction, place))
        }
      }
    },
  }
}

/** The story in parts, cut at these shares of it. */
function partsOf(seed: number, ...shares: number[]): Rows[] {
  const story = storyOf(seed, { accounts: 24, steps: 250 })
  const cuts = [0, ...shares.map((share) => Math.floor(story.length * share)), story.length]
  return cuts.slice(1).map((end, index) => story.slice(cuts[index], end))
}

test(
  'delivered again and again, to two groups at once, over rebalances and lost connections',
  { timeout: slow },
  async () => {
    const pipe = await newPipe()
    const story = partsOf(11).flat()
    const sent = atLeastOnce(story, drawsOf(11))
    const third = Math.floor(sent.length / 3)
    const cutConnections = () =>
      pipe.pool.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'`,
      )
    const one = pipe.startAll({ chunkRecords: 20 })
    // Each of them has every partition: to each other they are owners that were paused and woke up.
    const rivals = pipe.startAll({ chunkRecords: 33, group: 'rivals' })
    await one.haveAll()
    await rivals.haveAll()
    await pipe.publish(sent.slice(0, third))
    await vi.waitUntil(() => one.sum('applied') > 0 && rivals.sum('applied') > 0, patient)
    await cutConnections()
    await pipe.isRead()
    await rivals.stop()
    const two = pipe.startAll({ chunkRecords: 20 })
    await pipe.publish(sent.slice(third, 2 * third))
    await cutConnections()
    await two.are(({ assigned = [] }) => assigned.length > 0)
    await cutConnections()
    await one.stop()
    await pipe.publish(sent.slice(2 * third))
    await pipe.isRead()
    expect(await pipe.look(story)).toEqual(allIsWell)
    const stops = [one, two, rivals].flatMap(({ statuses }) =>
      statuses.flatMap(({ stopped }) => [...stopped.values()]),
    )
    expect(stops).toEqual([])
  },
)

test(
  'stored offsets moved to 0 repeat everything, and moved to the end leave nothing out for long',
  { timeout: slow },
  async () => {
    const pipe = await newPipe()
    const [before, after] = partsOf(12, 0.6) as [Rows, Rows]
    const story = [...before, ...after]
    await pipe.record(story)
    await pipe.publish(before)
    const first = pipe.startAll()
    await pipe.through(before)
    await first.stop()
    await pipe.moveOffsets('0')
    const again = pipe.startAll()
    await pipe.isRead()
    await vi.waitUntil(
      () => again.sum('duplicates') === before.length * projections.length,
      patient,
    )
    await again.stop()
    expect([again.sum('applied'), await pipe.look(before)]).toEqual([0, allIsWell])
    await pipe.publish(after)
    for (const [partition, { high }] of await topicOffsets({ brokers, topic: pipe.topic })) {
      await pipe.moveOffsets(`case partition when ${partition} then ${high} else next_offset end`)
    }
    const blind = pipe.startAll()
    await pipe.isRead()
    await blind.stop()
    // Without the sweep nobody would know; and this look would.
    const { unnamed, ...rest } = await pipe.look(story)
    expect(rest).toEqual({ named: [], wrong: [] })
    expect(unnamed.length).toBeGreaterThan(projections.length)
    pipe.startAll({ feed: pipe.feed, sweep: pipe.sweep })
    await pipe.expectAllWell(story, after)
  },
)

test(
  'a topic made anew: everything stands still, then is as the feed has it, and goes on',
  { timeout: slow },
  async () => {
    const pipe = await newPipe()
    const [read, lost, anew, next] = partsOf(13, 0.4, 0.6, 0.8) as [Rows, Rows, Rows, Rows]
    await pipe.record([...read, ...lost, ...anew])
    await pipe.publish(read)
    const first = pipe.startAll()
    await pipe.through(read)
    await first.stop()
    await pipe.recreate()
    await pipe.publish(anew)
    const all = pipe.startAll({ feed: pipe.feed })
    await all.stoppedFor('topic_recreated')
    expect(await pipe.look(read)).toEqual(allIsWell)
    await pipe.askForRepairs()
    await pipe.through([...read, ...lost, ...anew])
    await pipe.isRead()
    await pipe.record(next)
    await pipe.publish(next)
    await pipe.isRead()
    await pipe.expectAllWell([...read, ...lost, ...anew, ...next], [...lost, ...anew])
  },
)

test('a log that lost its tail, and grew past it: the same', { timeout: slow }, async () => {
  const pipe = await newPipe()
  const [read, lost, grown, next] = partsOf(14, 0.4, 0.6, 0.8) as [Rows, Rows, Rows, Rows]
  await pipe.record([...read, ...lost, ...grown])
  await pipe.publish(read)
  const first = pipe.startAll()
  await pipe.through(read)
  await pipe.moveOffsets('next_offset + 3')
  await first.stoppedFor('offset_beyond_log')
  await first.stop()
  await pipe.publish(grown)
  const all = pipe.startAll({ feed: pipe.feed })
  await all.stoppedFor('offset_beyond_log')
  expect(await pipe.look(read)).toEqual(allIsWell)
  await pipe.askForRepairs()
  await pipe.through([...read, ...lost, ...grown])
  await pipe.isRead()
  await pipe.record(next)
  await pipe.publish(next)
  await pipe.isRead()
  await pipe.expectAllWell([...read, ...lost, ...grown, ...next], [...lost, ...grown])
})

test(
  'records deleted before they were read: as the feed has it at once, and it goes on',
  { timeout: slow },
  async () => {
    const pipe = await newPipe()
    const [read, gone, next] = partsOf(15, 0.4, 0.8) as [Rows, Rows, Rows]
    await pipe.record([...read, ...gone])
    await pipe.publish(read)
    const first = pipe.startAll()
    await pipe.through(read)
    await first.stop()
    await pipe.publish(gone)
    for (const [partition, { high }] of await topicOffsets({ brokers, topic: pipe.topic })) {
      await truncateTopic(brokers, { topic: pipe.topic, partition, below: high - 1n })
    }
    const all = pipe.startAll({ feed: pipe.feed })
    await pipe.through([...read, ...gone])
    await pipe.isRead()
    await all.are(({ repaired }) => repaired.get('offset_below_log') === partitions.length)
    await pipe.record(next)
    await pipe.publish(next)
    await pipe.isRead()
    await pipe.expectAllWell([...read, ...gone, ...next], gone)
  },
)

test.each([
  ['missing or unreadable events', withGaps],
  ['last events lost, and all of an account', withLostTails],
  ['other events under the same versions', withOtherHistories],
] as const)(
  '%s: repaired from the feed, and nothing else waits',
  { timeout: slow },
  async (_, harm) => {
    const pipe = await newPipe()
    const story = partsOf(16).flat()
    await pipe.record(story)
    const { rows, accounts } = harm(story, 16)
    await pipe.publish(rows)
    const all = pipe.startAll({ feed: pipe.feed, sweep: pipe.sweep, chunkRecords: 40 })
    const touched = story.filter((row) => accounts.has(row[3]))
    await pipe.expectAllWell(story, touched)
    await all.are(({ quarantine }) => quarantine.repaired >= accounts.size)
    expect(all.statuses.flatMap(({ stopped }) => [...stopped])).toEqual([])
  },
)
