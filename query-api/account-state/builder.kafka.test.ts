import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { runConsumer } from 'kafka/consumer'
import { openProducer } from 'kafka/producer'
import { createTopic, deleteTopic } from 'kafka/test-topics'
import { testBrokers } from 'local-stack/test-databases'
import { encode, type OutboxRow } from 'outbox-relay/wire'
import { openLog } from 'service/log'
import { expect, onTestFinished, test, vi } from 'vitest'
import { newStatus } from '../status.ts'
import { eventRow, historyOf, interleave } from '../test-events.ts'
import { runAccountState, type Tombstones } from './builder.ts'

const brokers = testBrokers()
const patient = { timeout: 40_000, interval: 50 }

/** Two topics of one partition, and what a committed reader sees in the second. */
async function newWork() {
  const id = randomUUID()
  const work = { from: `events-${id}`, to: `state-${id}`, groupId: `state-${id}` }
  for (const topic of [work.from, work.to]) {
    await createTopic(brokers, topic, 1)
    onTestFinished(() => deleteTopic(brokers, topic))
  }
  /** `account=version`, or `account=gone`, as they were written. */
  const written: string[] = []
  const control = new AbortController()
  const reading = runConsumer({
    brokers,
    groupId: `reader-${id}`,
    topic: work.to,
    signal: control.signal,
    onBatch: async ({ records }) => {
      for (const { key, value } of records) {
        const state = value === null ? undefined : (JSON.parse(String(value)) as State)
        written.push(`${String(key)}=${state?.version ?? 'gone'}`)
      }
      return { next: records.at(-1)!.offset + 1n }
    },
  })
  onTestFinished(async () => {
    control.abort()
    await reading
  })
  const produce = async (rows: readonly OutboxRow[]) => {
    await using producer = openProducer({ brokers, clientId: 'state-test' })
    const records = rows.map((row) => ({ ...encode(row), topic: work.from }))
    await producer.publish(records, AbortSignal.timeout(20_000))
  }
  return { ...work, written, produce }
}

type State = { version: number }
type Work = Awaited<ReturnType<typeof newWork>>

function start({ from, to, groupId }: Work, tombstones?: Tombstones) {
  const control = new AbortController()
  const status = newStatus('account-state', { topic: from, groupId })
  const running = runAccountState({
    brokers,
    status,
    topic: to,
    signal: control.signal,
    log: openLog('query-api', 'silent'),
    ...(tombstones === undefined ? {} : { tombstones }),
  })
  const stop = async () => {
    control.abort()
    await running
  }
  onTestFinished(stop)
  return { status, stop }
}

/** A builder in a process of its own, which waits before it writes. */
async function startHesitant({ from, to, groupId }: Work) {
  const script = new URL('./test-builder.ts', import.meta.url).pathname
  const child = spawn(
    process.execPath,
    [script, brokers.join(','), from, to, groupId, 'hesitant'],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  onTestFinished(() => end(child))
  const said: string[] = []
  child.stdout.on('data', (data: Buffer) => said.push(String(data)))
  await vi.waitFor(() => expect(said.join('')).toContain('about to write'), patient)
  return { child, said }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

const latest = (written: readonly string[]) =>
  Object.fromEntries(written.map((each) => each.split('=') as [string, string]))

test('of each account the latest state is written, and goes on after a restart', async () => {
  const work = await newWork()
  const rows = interleave([historyOf('a', 30), historyOf('b', 20), historyOf('c', 1)])
  await work.produce(rows)
  const first = start(work)
  await vi.waitFor(
    () => expect(latest(work.written)).toEqual({ a: '30', b: '20', c: '1' }),
    patient,
  )
  // What the relay sends again brings no older state back.
  const before = work.written.length
  await work.produce(rows.slice(-10))
  await vi.waitFor(() => expect(first.status.duplicates).toBe(10), patient)
  expect(work.written).toHaveLength(before)
  await first.stop()
  await work.produce([eventRow('a', 31)])
  start(work)
  await vi.waitFor(() => expect(latest(work.written)).toMatchObject({ a: '31' }), patient)
  expect(work.written).toEqual([...work.written.slice(0, before), 'a=31'])
})

test('a builder killed before it wrote has written nothing, and its successor does', async () => {
  const work = await newWork()
  await work.produce(historyOf('a', 3))
  const { child } = await startHesitant(work)
  await end(child)
  expect(work.written).toEqual([])
  start(work)
  await vi.waitFor(() => expect(work.written).toEqual(['a=3']), patient)
})

test(
  'a builder that was paused for long writes nothing when it wakes up',
  { timeout: 90_000 },
  async () => {
    const work = await newWork()
    await work.produce(historyOf('a', 3))
    const { child, said } = await startHesitant(work)
    child.kill('SIGSTOP')
    await work.produce([eventRow('a', 4), eventRow('a', 5)])
    start(work)
    await vi.waitFor(() => expect(work.written.at(-1)).toBe('a=5'), patient)
    const written = [...work.written]
    child.kill('SIGCONT')
    child.stdin.write('go on\n')
    await vi.waitFor(() => expect(said.join('')).toMatch(/producer_fenced/), patient)
    await end(child)
    await work.produce([eventRow('a', 6)])
    await vi.waitFor(() => expect(work.written).toEqual([...written, 'a=6']), patient)
  },
)

test('an account is removed only up to the version asked for', async () => {
  const work = await newWork()
  const asked = new Map([['a', 3]])
  const done: string[] = []
  const tombstones: Tombstones = {
    of: async () => ({ due: done.length === 0 ? ['a'] : [], through: asked }),
    written: async (accounts) => void done.push(...accounts),
  }
  await work.produce([...historyOf('a', 3), eventRow('b', 1)])
  start(work, tombstones)
  await vi.waitFor(() => expect(work.written).toEqual(['a=gone', 'b=1']), patient)
  await work.produce([...historyOf('a', 3), eventRow('a', 4)])
  await vi.waitFor(() => expect(work.written.at(-1)).toBe('a=4'), patient)
  expect(done).toEqual(['a'])
})
