import { randomUUID } from 'node:crypto'
import { findJava } from 'local-stack'
import { waitUntil } from 'local-stack/wait-until'
import { pause } from 'service/backoff'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  chunks,
  expectAllInOrder,
  numbered,
  type OpenProducer,
  type Sizes,
} from './producer-conformance.ts'
import type { FailedAttempt, ProducerSettings } from './producer.ts'
import { startTestCluster, type TestCluster } from './test-cluster.ts'
import { createTopic, deleteTopic } from './test-topics.ts'
import { dumpTopic } from './topic-dump.ts'

// What every producer promises where several brokers lead: as producer-conformance.ts, on a cluster
// of two that each of these starts once.

const java = findJava(process.env)
const alternating = [1, 2, 1, 2]
const swapped = [2, 1, 2, 1]
const batchRecords = 100

/** Runs `define` with a cluster that is there while its tests run. */
export function onTestCluster(define: (cluster: () => TestCluster) => void): void {
  describe.skipIf('missing' in java)('on two brokers', () => {
    let cluster: TestCluster | undefined
    beforeAll(async () => {
      if ('java' in java) cluster = await startTestCluster(java.java)
    }, 120_000)
    afterAll(() => cluster?.[Symbol.asyncDispose](), 60_000)
    define(() => cluster!)
  })
}

export function clusterConformance(open: OpenProducer, cluster: () => TestCluster): void {
  test('publishes to the leader of each partition', async () => {
    await using run = await startRun(cluster(), open)
    await run.publishAll()
    await run.expectAllInOrder()
  })

  test(
    'loses and reorders nothing when leaders move while it publishes',
    () => survivesMovedLeaders(open, cluster()),
    180_000,
  )

  test('loses and reorders nothing when one of two brokers is killed and comes back', async () => {
    await using run = await startRun(cluster(), open)
    const publishing = run.publishAll()
    await run.published(2_000)
    cluster().second().kill('SIGKILL')
    await cluster().second().exited
    await run.failure()
    await cluster().restartSecond()
    await publishing
    await run.expectAllInOrder()
  }, 180_000)

  test('gives up on a broker that has fallen silent, and publishes when it speaks again', async () => {
    await using run = await startRun(cluster(), open, { settings: { requestTimeoutMs: 1_000 } })
    const publishing = run.publishAll()
    await run.published(2_000)
    cluster().second().kill('SIGSTOP')
    try {
      await run.failure()
    } finally {
      cluster().second().kill('SIGCONT')
    }
    await publishing
    await run.expectAllInOrder()
  }, 180_000)

  test('goes on where the brokers have forgotten its producer id', async () => {
    const sizes = { count: 200, keys: 7 }
    await using run = await startRun(cluster(), open, { sizes })
    await run.publishAll()
    // What a partition remembers of its producers goes with the partition.
    await deleteTopic(cluster().brokers, run.topic)
    await createTopic(cluster().brokers, run.topic, alternating.length)
    await run.publishAll()
    await run.expectAllInOrder()
  }, 60_000)

  succession(open, cluster)
}

/** What comes after a producer: itself, under another id; another one; nothing. */
function succession(open: OpenProducer, cluster: () => TestCluster): void {
  test(
    'goes on, in order, after it was quiet for so long that its producer id has expired',
    () => goesOnAfterExpiry(open, cluster()),
    60_000,
  )

  test('another producer goes on from where one was stopped in the middle', async () => {
    const sizes = { count: 8_000, keys: 50 }
    const stop = new AbortController()
    await using first = await startRun(cluster(), open, { sizes, signal: stop.signal })
    const publishing = first.publishAll().catch((error: unknown) => error)
    await first.published(1_000)
    stop.abort(new Error('stopped'))
    expect(await publishing).toBe(stop.signal.reason)
    // What of the last batch was on its way may still arrive, among what the second one sends.
    await using second = await startRun(cluster(), open, { sizes, topic: first.topic })
    await second.publishAll()
    await second.expectAllInOrder()
  }, 60_000)

  test(
    'a producer that is disposed of publishes nothing more',
    () => publishesNothingOnceDisposed(open, cluster()),
    60_000,
  )
}

/** What comes after the wait is not what came before it: its loss would show. */
export async function goesOnAfterExpiry(open: OpenProducer, cluster: TestCluster): Promise<void> {
  const sizes = { count: 400, keys: 7 }
  await using run = await startRun(cluster, open, { sizes })
  await run.publishRange(0, 200)
  // Time itself is what is waited for: the test cluster's producer.id.expiration.ms is 2 s, looked
  // at five times a second.
  await pause(3_500)
  await run.publishRange(200, 400)
  await run.expectAllInOrder()
  expect(run.failures()).toBe(0)
}

export async function publishesNothingOnceDisposed(open: OpenProducer, cluster: TestCluster) {
  const sizes = { count: 40_000, keys: 50 }
  const run = await startRun(cluster, open, { sizes })
  const publishing = run.publishAll().then(
    () => 'went on to the end',
    () => 'ended',
  )
  await run.published(1_000)
  await run[Symbol.asyncDispose]()
  expect(await publishing).toBe('ended')
  // Of the batch that was on its way some may be appended while the first look lasts; nothing later,
  // and nothing else.
  await run.dump()
  const soon = await run.dump()
  expect(await run.dump()).toHaveLength(soon.length)
  const unconfirmed =
    new Set(soon.map(({ key, value }) => `${key} ${value}`)).size - run.confirmed()
  expect(unconfirmed).toBeGreaterThanOrEqual(0)
  expect(unconfirmed).toBeLessThanOrEqual(batchRecords)
}

export async function survivesMovedLeaders(open: OpenProducer, cluster: TestCluster) {
  await using run = await startRun(cluster, open)
  const publishing = run.publishAll()
  for (const [n, holders] of [swapped, alternating, swapped].entries()) {
    await run.published((n + 1) * 2_000)
    await cluster.moveTopic(run.topic, holders)
  }
  await publishing
  await run.expectAllInOrder()
}

type RunOptions = {
  settings?: Partial<ProducerSettings>
  sizes?: Sizes
  /** One that is there; a new one otherwise. */
  topic?: string
  signal?: AbortSignal
}

/** Numbered records in small batches, to a topic whose partitions are led by both brokers. */
async function startRun(
  { brokers, createTopic: create }: TestCluster,
  open: OpenProducer,
  options: RunOptions = {},
) {
  const { settings = {}, sizes = { count: 12_000, keys: 50 }, signal } = options
  const topic = options.topic ?? `conformance-${randomUUID()}`
  if (options.topic === undefined) await create(topic, alternating)
  const failed: FailedAttempt[] = []
  const onFailedAttempt = (attempt: FailedAttempt) => void failed.push(attempt)
  const producer = open({ brokers, clientId: 'conformance', onFailedAttempt, ...settings })
  let published = 0
  const publishRange = async (from: number, end: number) => {
    for (const batch of chunks(numbered(topic, sizes).slice(from, end), batchRecords)) {
      await producer.publish(batch, signal ?? AbortSignal.timeout(120_000))
      published += batch.length
    }
  }
  const dump = () => dumpTopic(brokers, topic)
  return {
    topic,
    failures: () => failed.length,
    publishRange,
    publishAll: () => publishRange(0, sizes.count),
    /** How many records it was told are in Kafka. */
    confirmed: () => published,
    published: (enough: number) =>
      waitUntil(() => published >= Math.min(enough, sizes.count), {
        what: 'some batches',
        deadlineMs: 120_000,
        intervalMs: 1,
      }),
    failure() {
      const before = failed.length
      return waitUntil(() => failed.length > before, { what: 'a failure', deadlineMs: 60_000 })
    },
    dump,
    expectAllInOrder: async () => expectAllInOrder(await dump(), sizes),
    [Symbol.asyncDispose]: () => producer[Symbol.asyncDispose](),
  }
}
