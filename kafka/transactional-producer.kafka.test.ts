import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { testBrokers } from 'local-stack/test-databases'
import { expect, onTestFinished, test, vi } from 'vitest'
import { runConsumer } from './consumer.ts'
import { createTopic, deleteTopic } from './test-topics.ts'
import {
  groupProgress,
  openTransactionalProducer,
  type TransactionalProducer,
} from './transactional-producer.ts'

const brokers = testBrokers()
const patient = { timeout: 20_000, interval: 50 }

/** A topic with one partition, a group and a name, and what a committed reader has seen so far. */
async function newWork() {
  const id = randomUUID()
  const work = { topic: `transactions-${id}`, groupId: `group-${id}`, name: `name-${id}` }
  await createTopic(brokers, work.topic, 1)
  const seen: string[] = []
  const control = new AbortController()
  const reading = runConsumer({
    brokers,
    groupId: `reader-${id}`,
    topic: work.topic,
    signal: control.signal,
    onBatch: async ({ records }) => {
      seen.push(...records.map(({ key, value }) => `${String(key)}=${String(value)}`))
      return { next: records.at(-1)!.offset + 1n }
    },
  })
  onTestFinished(async () => {
    control.abort()
    await reading
    await deleteTopic(brokers, work.topic)
  })
  const open = async () => {
    const producer = await openTransactionalProducer({ brokers, name: work.name })
    onTestFinished(() => producer[Symbol.asyncDispose]())
    return producer
  }
  const write = (producer: TransactionalProducer, value: string | null, next: bigint) =>
    producer.write(work.topic, [{ key: 'a', value }], {
      groupId: work.groupId,
      topic: work.topic,
      partition: 0,
      next,
      note: `up to ${value}`,
    })
  const progress = () => groupProgress({ brokers, ...work })
  return { ...work, seen, open, write, progress }
}

test('records and progress are written together, a tombstone too', async () => {
  const { seen, open, write, progress } = await newWork()
  expect(await progress()).toEqual(new Map())
  const owner = await open()
  await write(owner, '1', 5n)
  await write(owner, null, 6n)
  await vi.waitFor(() => expect(seen).toEqual(['a=1', 'a=null']), patient)
  expect(await progress()).toEqual(new Map([[0, { next: 6n, note: 'up to null' }]]))
})

test('of two owners of one name only the later one writes', async () => {
  const { seen, open, write, progress } = await newWork()
  const zombie = await open()
  await write(zombie, '1', 1n)
  const owner = await open()
  await write(owner, '2', 2n)
  await expect(write(zombie, '1, late', 1n)).rejects.toMatchObject({ code: 'producer_fenced' })
  await write(owner, '3', 3n)
  await vi.waitFor(() => expect(seen).toEqual(['a=1', 'a=2', 'a=3']), patient)
  expect((await progress()).get(0)?.next).toBe(3n)
})

test('two names do not fence each other (control of the test above)', async () => {
  const { seen, open, write, ...work } = await newWork()
  const zombie = await openTransactionalProducer({ brokers, name: `${work.name}-other` })
  onTestFinished(() => zombie[Symbol.asyncDispose]())
  await write(await open(), '2', 2n)
  await write(zombie, '1, late', 1n)
  await vi.waitFor(() => expect(seen).toEqual(['a=2', 'a=1, late']), patient)
  expect((await work.progress()).get(0)?.next).toBe(1n)
})

test('of a process killed in a transaction nothing is seen, and its successor goes on', async () => {
  const { topic, groupId, name, seen, open, write, progress } = await newWork()
  const first = await open()
  await write(first, '1', 1n)
  const script = new URL('./test-unfinished-transaction.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [script, brokers.join(','), name, topic, groupId, 'a'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')
  const successor = await open()
  expect((await progress()).get(0)?.next).toBe(1n)
  await write(successor, '2', 2n)
  await vi.waitFor(() => expect(seen).toEqual(['a=1', 'a=2']), patient)
  expect((await progress()).get(0)?.next).toBe(2n)
})
