import { randomUUID } from 'node:crypto'
import { testBrokers } from 'local-stack/test-databases'
import { expect, onTestFinished, test, vi } from 'vitest'
import { topicOffsets } from './admin.ts'
import {
  type BatchAnswer,
  type ConsumedBatch,
  ConsumerFailed,
  type ConsumerOptions,
  findRecord,
  runConsumer,
} from './consumer.ts'
import { openProducer } from './producer.ts'
import { createTopic, deleteTopic, groupNames } from './test-topics.ts'

const brokers = testBrokers()
const patient = { timeout: 15_000, interval: 20 }

async function newTopic(partitions: number): Promise<string> {
  const topic = `consumer-${randomUUID()}`
  await createTopic(brokers, topic, partitions)
  onTestFinished(() => deleteTopic(brokers, topic))
  return topic
}

/** Keys are `<key>`, values `<key>:<n>` from `first` on, in turn over the keys. */
async function produce(
  topic: string,
  { keys, count, first = 0 }: { keys: string[]; count: number; first?: number },
): Promise<void> {
  await using producer = openProducer({ brokers, clientId: 'consumer-test' })
  const records = Array.from({ length: count }, (_, index) => {
    const key = keys[index % keys.length]!
    return { topic, key, value: `${key}:${first + index}`, headers: [['id', `${index}`]] as const }
  })
  await producer.publish(records, AbortSignal.timeout(20_000))
}

type Seen = { partition: number; offset: bigint; value: string }

function seenIn(batch: ConsumedBatch): Seen[] {
  const { partition } = batch
  return batch.records.map(({ offset, value }) => ({ partition, offset, value: String(value) }))
}

const after = (batch: ConsumedBatch) => ({ next: batch.records.at(-1)!.offset + 1n })

/** Runs until `stop`, or until the test is over; `ended` settles as `runConsumer` did. */
function start(
  options: Omit<ConsumerOptions, 'brokers' | 'groupId' | 'signal'> & { groupId?: string },
) {
  const control = new AbortController()
  const ended = runConsumer({
    brokers,
    groupId: `group-${randomUUID()}`,
    ...options,
    signal: control.signal,
  })
  ended.catch(() => {})
  const stop = async () => {
    control.abort()
    await ended
  }
  onTestFinished(() => stop().catch(() => {}))
  return { ended, stop }
}

test('each partition arrives whole and in order, in chunks that follow each other', async () => {
  const topic = await newTopic(3)
  const keys = ['a', 'b', 'c', 'd', 'e']
  await produce(topic, { keys, count: 1_000 })
  const batches: ConsumedBatch[] = []
  start({
    topic,
    chunkRecords: 70,
    onBatch: async (batch) => {
      batches.push(batch)
      return after(batch)
    },
  })
  const count = () => batches.reduce((sum, batch) => sum + batch.records.length, 0)
  await vi.waitUntil(() => count() >= 1_000, patient)
  expect(count()).toBe(1_000)
  for (const partition of [0, 1, 2]) {
    const own = batches.filter((batch) => batch.partition === partition)
    let next = 0n
    for (const batch of own) {
      expect(batch.fetchOffset).toBe(next)
      expect(batch.records.length).toBeLessThanOrEqual(70)
      for (const record of batch.records) expect(record.offset).toBe(next++)
      expect(batch.highWatermark).toBeGreaterThanOrEqual(next)
    }
  }
  for (const key of keys) {
    const numbers = batches
      .flatMap(seenIn)
      .filter((each) => each.value.startsWith(`${key}:`))
      .map((each) => Number(each.value.slice(2)))
    expect(numbers).toEqual(numbers.toSorted((one, other) => one - other))
    expect(numbers).toHaveLength(200)
  }
})

test('a partition begins where the caller says after an assignment, and others at the earliest', async () => {
  const topic = await newTopic(2)
  await produce(topic, { keys: ['a', 'b', 'c', 'd', 'e', 'f'], count: 60 })
  const firsts = new Map<number, bigint>()
  start({
    topic,
    onAssigned: async (partitions) => {
      expect(partitions.toSorted()).toEqual([0, 1])
      return new Map([[1, 7n]])
    },
    onBatch: async (batch) => {
      if (!firsts.has(batch.partition)) firsts.set(batch.partition, batch.fetchOffset)
      expect(batch.records[0]?.offset).toBe(batch.fetchOffset)
      return after(batch)
    },
  })
  await vi.waitUntil(() => firsts.size === 2, patient)
  expect(firsts).toEqual(
    new Map([
      [0, 0n],
      [1, 7n],
    ]),
  )
})

test('after a seek the rest of what was fetched is not handed over', async () => {
  const topic = await newTopic(1)
  await produce(topic, { keys: ['a'], count: 100 })
  const starts: bigint[] = []
  const answers: BatchAnswer[] = [{ next: 10n }, { seek: 3n }]
  start({
    topic,
    chunkRecords: 10,
    onBatch: async (batch) => {
      starts.push(batch.fetchOffset)
      return answers[starts.length - 1] ?? after(batch)
    },
  })
  await vi.waitUntil(() => starts.includes(93n), patient)
  expect(starts.slice(0, 4)).toEqual([0n, 10n, 3n, 13n])
})

test('a stopped partition stays stopped over a rebalance while others go on', async () => {
  const topic = await newTopic(4)
  const groupId = `group-${randomUUID()}`
  const keys = Array.from({ length: 40 }, (_, index) => `key-${index}`)
  await produce(topic, { keys, count: 400 })
  const stopped = new Set<number>()
  const handed = new Map<number, number>()
  const joins: number[][] = []
  const first = {
    groupId,
    topic,
    onAssigned: async (partitions: readonly number[]) => {
      joins.push([...partitions])
      return new Map([...stopped].map((partition) => [partition, 'stop'] as const))
    },
    onBatch: async (batch: ConsumedBatch): Promise<BatchAnswer> => {
      handed.set(batch.partition, (handed.get(batch.partition) ?? 0) + 1)
      if (batch.partition !== 2) return after(batch)
      stopped.add(2)
      return 'stop'
    },
  }
  start(first)
  await vi.waitUntil(() => handed.size === 4, patient)
  const other = start({ groupId, topic, onBatch: async (batch) => after(batch) })
  await vi.waitUntil(() => joins.some((each) => each.length === 2), patient)
  await other.stop()
  await vi.waitUntil(() => joins.at(-1)?.length === 4, patient)
  const before = handed.get(0)!
  await produce(topic, { keys, count: 400, first: 400 })
  await vi.waitUntil(() => handed.get(0)! > before, patient)
  expect(handed.get(2)).toBe(1)
})

test('two consumers share the partitions and go on from the stored offsets, none twice', async () => {
  const topic = await newTopic(6)
  const groupId = `group-${randomUUID()}`
  const keys = Array.from({ length: 60 }, (_, index) => `key-${index}`)
  // Stands for the offset rows in Postgres: whoever holds them decides, not Kafka.
  const stored = new Map<number, bigint>()
  const applied: string[] = []
  const owners = new Map<string, number>()
  const member = (name: string) => ({
    groupId,
    topic,
    chunkRecords: 20,
    onAssigned: async (partitions: readonly number[]) => {
      owners.set(name, partitions.length)
      return new Map(partitions.map((partition) => [partition, stored.get(partition) ?? 0n]))
    },
    onBatch: async (batch: ConsumedBatch): Promise<BatchAnswer> => {
      const wanted = stored.get(batch.partition) ?? 0n
      if (batch.fetchOffset !== wanted) return { seek: wanted }
      // By their places: a producer may repeat a batch, which is no matter of the consumer.
      applied.push(...seenIn(batch).map(({ partition, offset }) => `${partition}/${offset}`))
      const answer = after(batch)
      stored.set(batch.partition, answer.next)
      return answer
    },
  })
  start(member('one'))
  await produce(topic, { keys, count: 600 })
  await vi.waitUntil(() => applied.length >= 600, patient)
  const two = start(member('two'))
  await produce(topic, { keys, count: 600, first: 1_000 })
  await vi.waitUntil(() => owners.get('one') === 3 && owners.get('two') === 3, patient)
  await produce(topic, { keys, count: 600, first: 2_000 })
  await vi.waitUntil(() => applied.length >= 1_800, patient)
  await two.stop()
  const soFar = applied.length
  await produce(topic, { keys, count: 300, first: 100_000 })
  await vi.waitUntil(() => applied.length >= soFar + 300, patient)
  expect(new Set(applied).size).toBe(applied.length)
})

test('work longer than the session keeps its membership', async () => {
  const topic = await newTopic(1)
  await produce(topic, { keys: ['a'], count: 5 })
  const release = Promise.withResolvers<void>()
  let assignments = 0
  let heartbeats = 0
  const offsets: bigint[] = []
  start({
    topic,
    sessionTimeoutMs: 6_000,
    heartbeatIntervalMs: 200,
    onAssigned: async () => {
      assignments += 1
      return new Map()
    },
    onAlive: (sign) => {
      if (sign === 'heartbeat') heartbeats += 1
    },
    onBatch: async (batch) => {
      offsets.push(batch.fetchOffset)
      await release.promise
      expect(batch.signal.aborted).toBe(false)
      return after(batch)
    },
  })
  await vi.waitUntil(() => offsets.length === 1, patient)
  const [begun, atFirst] = [performance.now(), heartbeats]
  await vi.waitUntil(() => performance.now() - begun > 7_000, patient)
  expect(heartbeats - atFirst).toBeGreaterThan(5)
  release.resolve()
  await produce(topic, { keys: ['a'], count: 5, first: 5 })
  await vi.waitUntil(() => offsets.length === 2, patient)
  expect(offsets).toEqual([0n, 5n])
  expect(assignments).toBe(1)
})

test('stops within two seconds, also while a batch is at work, whose answer is then dropped', async () => {
  const topic = await newTopic(1)
  await produce(topic, { keys: ['a'], count: 5 })
  const working = Promise.withResolvers<void>()
  const consumer = start({
    topic,
    onBatch: async (batch) => {
      working.resolve()
      await new Promise((resolve) => batch.signal.addEventListener('abort', resolve))
      throw batch.signal.reason
    },
  })
  await working.promise
  const begun = performance.now()
  await consumer.stop()
  expect(performance.now() - begun).toBeLessThan(2_000)
})

test('what a handler throws ends the consumer at once', async () => {
  const topic = await newTopic(1)
  await produce(topic, { keys: ['a'], count: 1 })
  let calls = 0
  const consumer = start({
    topic,
    onBatch: async () => {
      calls += 1
      throw new Error('a fault of the handler')
    },
  })
  await expect(consumer.ended).rejects.toThrow('a fault of the handler')
  expect(calls).toBe(1)
})

test('without Kafka it gives up after a bounded number of restarts', async () => {
  const failures: number[] = []
  const ended = runConsumer({
    brokers: ['127.0.0.1:1'],
    groupId: 'nobody',
    topic: 'nothing',
    signal: AbortSignal.timeout(60_000),
    restartLimit: 2,
    backoff: { firstMs: 1, capMs: 5 },
    onRestart: (restart) => failures.push(restart.failures),
    onBatch: async (batch) => after(batch),
  })
  await expect(ended).rejects.toThrow(ConsumerFailed)
  expect(failures).toEqual([1, 2])
})

test('finds where a record went, whether it is there already or still to come', async () => {
  const topic = await newTopic(3)
  await produce(topic, { keys: ['x', 'y', 'z'], count: 30 })
  const signal = AbortSignal.timeout(20_000)
  const there = await findRecord({ brokers, topic, key: 'y', signal })
  expect(there.offset).toBeLessThan(30n)
  const coming = findRecord({ brokers, topic, key: 'later', signal })
  await produce(topic, { keys: ['later'], count: 1 })
  const { partition, offset } = await coming
  expect(offset).toBe((await topicOffsets({ brokers, topic })).get(partition)!.high - 1n)
})

test('a search that finds nothing ends with its signal and leaves no group behind', async () => {
  const topic = await newTopic(1)
  const control = new AbortController()
  const search = findRecord({ brokers, topic, key: 'never', signal: control.signal })
  const ours = async () =>
    (await groupNames(brokers)).filter((name) => name.startsWith('sluice-find-'))
  await vi.waitUntil(async () => (await ours()).length > 0, patient)
  control.abort(new Error('enough'))
  await expect(search).rejects.toThrow('enough')
  expect(await ours()).toEqual([])
})
