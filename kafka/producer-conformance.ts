import { randomUUID } from 'node:crypto'
import { findFreePorts, findJava, openDataFolder, startKafka } from 'local-stack'
import { testBrokers } from 'local-stack/test-databases'
import { ensureTestJars } from 'local-stack/test-servers'
import { waitUntil } from 'local-stack/wait-until'
import { describe, expect, test, vi } from 'vitest'
import { ensureTopics, topicOffsets } from './admin.ts'
import { partitionOf } from './partition.ts'
import type { FailedAttempt, KafkaLogLine, Producer, ProducerSettings } from './producer.ts'
import type { KafkaRecord } from './record.ts'
import { type DumpedRecord, dumpTopic } from './topic-dump.ts'

// What every producer of the relay promises, whatever it is made of. Each has a test file that calls
// this with its own way to open one.

export type OpenProducer = (settings: ProducerSettings) => Producer

const partitions = 4
const patience = () => AbortSignal.timeout(60_000)

export function producerConformance(open: OpenProducer): void {
  describe('the order of records', () => {
    order(open)
    restarting(open)
  })
  describe('the bytes of a record', () => {
    bytes(open)
  })
  describe('a record that Kafka refuses', () => {
    refusals(open)
    refusalsOfMore(open)
  })
  describe('a publish that is to end, or to wait', () => {
    stopping(open)
    waiting(open)
  })
}

async function newTopic(brokers: readonly string[], settings: Record<string, string> = {}) {
  const topic = `conformance-${randomUUID()}`
  const topics = [{ name: topic, partitions, settings }]
  await ensureTopics({ brokers, topics, report: () => {} })
  // Asks each leader itself: one that does not know yet that it leads would make a batch repeat.
  await topicOffsets({ brokers, topic })
  return topic
}

const shared = (open: OpenProducer, settings: Partial<ProducerSettings> = {}) =>
  open({ brokers: testBrokers(), clientId: 'conformance', ...settings })

/** `count` records over `keys` keys; values number the records of their key from 1. */
export function numbered(topic: string, { count, keys, size = 0 }: Sizes): KafkaRecord[] {
  return Array.from({ length: count }, (_, index) => ({
    topic,
    key: `key-${index % keys}`,
    value: `${Math.floor(index / keys) + 1}`.padEnd(size, ' '),
    headers: [['id', String(index)]],
  }))
}
export type Sizes = { count: number; keys: number; size?: number }

export function chunks<T>(all: readonly T[], size: number): T[][] {
  const count = Math.ceil(all.length / size)
  return Array.from({ length: count }, (_, n) => all.slice(n * size, (n + 1) * size))
}

/** Each key's values in the order of their first occurrence, in its one partition. */
function firstOccurrences(dump: readonly DumpedRecord[]): Map<string, string[]> {
  const byKey = new Map<string, string[]>()
  for (const { key, value, partition } of dump) {
    expect(partition).toBe(partitionOf(key, partitions))
    const values = byKey.get(key) ?? []
    if (!values.includes(value.trim())) values.push(value.trim())
    byKey.set(key, values)
  }
  return byKey
}

export function expectAllInOrder(dump: readonly DumpedRecord[], { count, keys }: Sizes): void {
  const found = firstOccurrences(dump)
  expect(found.size).toBe(keys)
  for (const [key, values] of found) {
    const mine = numbered('', { count, keys }).filter((record) => record.key === key)
    expect(values).toEqual(mine.map((record) => record.value))
  }
}

export async function keepsOrderOverManyRequests(open: OpenProducer): Promise<void> {
  const topic = await newTopic(testBrokers())
  const sizes = { count: 6_000, keys: 23 }
  await using producer = shared(open, { requestLimitBytes: 20_000 })
  for (const batch of chunks(numbered(topic, sizes), 700)) {
    await producer.publish(batch, patience())
  }
  const dump = await dumpTopic(testBrokers(), topic)
  expect(dump).toHaveLength(sizes.count)
  expectAllInOrder(dump, sizes)
}

/** Batches as like each other as can be: the ones that a broker could take for repetitions. */
export async function keepsEachOfManyLikeBatches(open: OpenProducer): Promise<void> {
  const topic = await newTopic(testBrokers())
  const sizes = { count: 30, keys: 1 }
  await using producer = shared(open)
  for (const record of numbered(topic, sizes)) await producer.publish([record], patience())
  const dump = await dumpTopic(testBrokers(), topic)
  expect(dump).toHaveLength(sizes.count)
  expectAllInOrder(dump, sizes)
}

function order(open: OpenProducer): void {
  test('keeps each of many batches of one record', () => keepsEachOfManyLikeBatches(open))

  test('keeps the order of each key over many batches and many requests', () =>
    keepsOrderOverManyRequests(open))

  test('publishes to several topics in one batch', async () => {
    const topics = [await newTopic(testBrokers()), await newTopic(testBrokers())] as const
    const sizes = { count: 200, keys: 5 }
    const [some, others] = [numbered(topics[0], sizes), numbered(topics[1], sizes)]
    await using producer = shared(open)
    await producer.publish(
      some.flatMap((record, n) => [record, others[n]!]),
      patience(),
    )
    for (const topic of topics) expectAllInOrder(await dumpTopic(testBrokers(), topic), sizes)
  })

  test('publishes nothing when given nothing', async () => {
    await using producer = shared(open)
    await producer.publish([], patience())
  })
}

function bytes(open: OpenProducer): void {
  test('keeps every header, in its place and to the byte, beside key and value', async () => {
    const topic = await newTopic(testBrokers())
    const record: KafkaRecord = {
      topic,
      key: 'Zoë-☃',
      value: '{"b":1,"a": 1.10,"name":"𝄞 \u0000 ü"}',
      headers: [
        ['id', '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10'],
        ['ce_type', 'FundsDeposited.v1'],
        ['ce_sequence', '9223372036854775807'],
        ['ce_time', '2026-11-21T08:00:00.120000Z'],
        ['ce_source', 'urn:sluice:command-api'],
        ['ce_specversion', '1.0'],
        ['ce_id', '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10'],
        ['ce_correlationid', 'ünïcode 𝄞'],
        ['ce_causationid', ''],
        ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
        ['content-type', 'application/json'],
      ],
    }
    await using producer = shared(open)
    await producer.publish(
      [record, { ...record, value: Buffer.from([0xf0, 0x9f, 0x92, 0xb6]) }],
      patience(),
    )
    const [first, second] = await dumpTopic(testBrokers(), topic)
    const { key, value, headers } = record
    expect(first).toMatchObject({ key, value, headers, partition: partitionOf(key, partitions) })
    expect(second?.value).toBe('💶')
  })

  test('takes values of 900 kB, and many in one batch', async () => {
    const topic = await newTopic(testBrokers())
    const sizes = { count: 6, keys: 2, size: 900_000 }
    await using producer = shared(open)
    await producer.publish(numbered(topic, sizes), patience())
    const dump = await dumpTopic(testBrokers(), topic)
    expect(dump.map(({ value }) => value.length)).toEqual(Array.from({ length: 6 }, () => 900_000))
    expectAllInOrder(dump, sizes)
  })
}

function refusals(open: OpenProducer): void {
  test('names the record that is too large; resent without it, the others are all there', async () => {
    const topic = await newTopic(testBrokers())
    const sizes = { count: 40, keys: 3 }
    const good = numbered(topic, sizes)
    const tooLarge = { topic, key: 'large', value: 'x'.repeat(1_200_000), headers: [] }
    await using producer = shared(open)
    await expect(
      producer.publish(good.toSpliced(17, 0, tooLarge), patience()),
    ).rejects.toMatchObject({ code: 'record_refused', index: 17, reason: 'MESSAGE_TOO_LARGE' })
    await producer.publish(good, patience())
    expectAllInOrder(await dumpTopic(testBrokers(), topic), sizes)
  })

  test('when it refuses a record, all before it in the batch are published', async () => {
    const topic = await newTopic(testBrokers())
    const sizes = { count: 17, keys: 3 }
    const tooLarge = { topic, key: 'large', value: 'x'.repeat(1_200_000), headers: [] }
    await using producer = shared(open)
    const batch = [...numbered(topic, sizes), tooLarge]
    await expect(producer.publish(batch, patience())).rejects.toMatchObject({ index: 17 })
    expectAllInOrder(await dumpTopic(testBrokers(), topic), sizes)
  })

  test('cuts requests further where a topic takes less, and still names the one refused', async () => {
    const topic = await newTopic(testBrokers(), { 'max.message.bytes': '20000' })
    const sizes = { count: 200, keys: 3, size: 1_000 }
    const good = numbered(topic, sizes)
    await using producer = shared(open)
    await producer.publish(good, patience())
    expectAllInOrder(await dumpTopic(testBrokers(), topic), sizes)
    const tooLarge = { topic, key: 'large', value: 'x'.repeat(25_000), headers: [] }
    await expect(
      producer.publish(good.toSpliced(91, 0, tooLarge), patience()),
    ).rejects.toMatchObject({
      code: 'record_refused',
      index: 91,
      sizeBytes: expect.closeTo(25_000, -3),
    })
  })

  test('publishes again after a refusal as if nothing had been', async () => {
    const topic = await newTopic(testBrokers())
    const sizes = { count: 300, keys: 7 }
    const good = numbered(topic, sizes)
    const tooLarge = { topic, key: 'key-0', value: 'x'.repeat(1_200_000), headers: [] }
    await using producer = shared(open)
    await producer.publish(good.slice(0, 100), patience())
    await expect(producer.publish([tooLarge], patience())).rejects.toMatchObject({ index: 0 })
    await producer.publish(good.slice(100), patience())
    const dump = await dumpTopic(testBrokers(), topic)
    expect(dump).toHaveLength(sizes.count)
    expectAllInOrder(dump, sizes)
  })
}

function refusalsOfMore(open: OpenProducer): void {
  test('names the record whose topic no Kafka can have', async () => {
    const topic = await newTopic(testBrokers())
    const sizes = { count: 20, keys: 3 }
    const good = numbered(topic, sizes)
    const nowhere = { topic: 'no topic has this name', key: 'a', value: '1', headers: [] }
    await using producer = shared(open)
    await expect(
      producer.publish(good.toSpliced(11, 0, nowhere), patience()),
    ).rejects.toMatchObject({
      code: 'record_refused',
      index: 11,
      reason: 'INVALID_TOPIC_EXCEPTION',
    })
    await producer.publish(good, patience())
    expectAllInOrder(await dumpTopic(testBrokers(), topic), sizes)
  })

  test('waits out a refusal of the time, which tells of two clocks and of no record', async () => {
    const topic = await newTopic(testBrokers())
    const sizes = { count: 3, keys: 1 }
    const failed: FailedAttempt[] = []
    // Brokers take an hour.
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 7_200_000 })
    await using cleanup = new AsyncDisposableStack()
    cleanup.defer(() => void vi.useRealTimers())
    await using producer = shared(open, {
      onFailedAttempt: (attempt) => void failed.push(attempt),
    })
    const publishing = producer.publish(numbered(topic, sizes), patience())
    await waitUntil(() => failed.length >= 2, { what: 'two failed attempts', deadlineMs: 20_000 })
    vi.useRealTimers()
    await publishing
    expectAllInOrder(await dumpTopic(testBrokers(), topic), sizes)
  })
}

function stopping(open: OpenProducer): void {
  test('stops waiting for Kafka with the signal, and throws its reason', async () => {
    const [port = 0] = await findFreePorts(1)
    const failed: FailedAttempt[] = []
    const stop = new AbortController()
    await using producer = open({
      brokers: [`127.0.0.1:${port}`],
      clientId: 'conformance',
      onFailedAttempt: (attempt) => void failed.push(attempt),
    })
    const publishing = producer
      .publish(numbered('any', { count: 1, keys: 1 }), stop.signal)
      .catch((error: unknown) => error)
    await waitUntil(() => failed.length >= 2, { what: 'two failed attempts', deadlineMs: 20_000 })
    stop.abort(new Error('enough'))
    expect(await publishing).toBe(stop.signal.reason)
    expect(failed.map(({ failures }) => failures).slice(0, 2)).toEqual([1, 2])
  })

  test('sends nothing when the signal has aborted before', async () => {
    const topic = await newTopic(testBrokers())
    await using producer = shared(open)
    const records = numbered(topic, { count: 3, keys: 1 })
    const aborted = AbortSignal.abort(new Error('too late'))
    await expect(producer.publish(records, aborted)).rejects.toThrow('too late')
    expect(await dumpTopic(testBrokers(), topic)).toEqual([])
  })

  test('sends nothing that beforeRequest forbids, and throws what it threw', async () => {
    const topic = await newTopic(testBrokers())
    let allowed = 2
    const beforeRequest = () => {
      allowed -= 1
      if (allowed < 0) throw new Error('not leading')
    }
    await using producer = shared(open, { beforeRequest, requestLimitBytes: 1_000 })
    const records = numbered(topic, { count: 9, keys: 1, size: 400 })
    await expect(producer.publish(records, patience())).rejects.toThrow('not leading')
    const dump = await dumpTopic(testBrokers(), topic)
    expect(dump.map(({ value }) => value.trim())).toEqual(['1', '2', '3', '4'])
  })
}

function waiting(open: OpenProducer): void {
  test('waits for a topic that does not exist, and says how to make it', async () => {
    const topic = `conformance-${randomUUID()}`
    const lines: KafkaLogLine[] = []
    const backoff = { firstMs: 10, capMs: 100 }
    await using producer = shared(open, { log: (line) => void lines.push(line), backoff })
    const sizes = { count: 10, keys: 2 }
    const publishing = producer.publish(numbered(topic, sizes), patience())
    const told = (level: string) =>
      lines.some((line) => line.level === level && /run npm run migrate/.test(line.message))
    await waitUntil(() => told('warn'), { what: 'a warning', deadlineMs: 20_000 })
    await waitUntil(() => told('error'), { what: 'an error', deadlineMs: 40_000 })
    const topics = [{ name: topic, partitions, settings: {} }]
    await ensureTopics({ brokers: testBrokers(), topics, report: () => {} })
    await publishing
    expectAllInOrder(await dumpTopic(testBrokers(), topic), sizes)
  }, 60_000)
}

function restarting(open: OpenProducer): void {
  const java = findJava(process.env)
  test.skipIf('missing' in java)(
    'loses and reorders nothing when the broker is killed and comes back, twice',
    async () => {
      if ('missing' in java) return
      await using folder = await openDataFolder()
      const [port = 0, controllerPort = 0] = await findFreePorts(2)
      const jars = await ensureTestJars()
      // A killed broker is let back in only when its old session has run out.
      const properties = { 'broker.session.timeout.ms': 1_500, 'broker.heartbeat.interval.ms': 300 }
      const ports = { port, controllerPort }
      const start = () =>
        startKafka({ dataFolder: folder, jars, java: java.java, ...ports, properties, heapMb: 256 })
      let broker = await start()
      await using cleanup = new AsyncDisposableStack()
      cleanup.defer(() => broker.stop())
      const topic = await newTopic(broker.brokers)
      const sizes = { count: 20_000, keys: 50 }
      const failed: FailedAttempt[] = []
      let published = 0
      await using producer = open({
        brokers: broker.brokers,
        clientId: 'conformance',
        onFailedAttempt: (attempt) => void failed.push(attempt),
      })
      const publishing = (async () => {
        for (const batch of chunks(numbered(topic, sizes), 100)) {
          await producer.publish(batch, AbortSignal.timeout(100_000))
          published += batch.length
        }
      })()
      for (const enough of [2_000, 9_000]) {
        await waitUntil(() => published >= enough, {
          what: 'some batches',
          deadlineMs: 60_000,
          intervalMs: 1,
        })
        const failures = failed.length
        broker.kill('SIGKILL')
        await broker.exited
        await waitUntil(() => failed.length > failures, { what: 'the loss to be noticed' })
        broker = await start()
      }
      await publishing
      expectAllInOrder(await dumpTopic(broker.brokers, topic), sizes)
    },
    180_000,
  )
}
