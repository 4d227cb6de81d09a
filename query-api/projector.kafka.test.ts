import { randomUUID } from 'node:crypto'
import { heartbeatIds, heartbeatType } from 'command-api/events'
import { encodeToken } from 'command-api/token'
import { openProducer } from 'kafka/producer'
import { createTopic, deleteTopic } from 'kafka/test-topics'
import { testBrokers, testDatabases } from 'local-stack/test-databases'
import { databaseOver, openPool } from 'migrations/database'
import type { ReadDatabase } from 'migrations/read'
import { encode, type OutboxRow } from 'outbox-relay/wire'
import { openToAll } from 'service/access'
import { serveHttp } from 'service/http'
import { openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { afterAll, expect, onTestFinished, test, vi } from 'vitest'
import { openFreshnesses } from './freshness.ts'
import { accountRoutes, findAccount } from './projections/accounts-reads.ts'
import { accounts } from './projections/accounts.ts'
import { projectorSessionSettings, runProjector } from './projector.ts'
import { newStatus, type ProjectionStatus } from './status.ts'
import { historyOf, interleave, outboxRow, timeOf } from './test-events.ts'
import { openTcpProxy, spawnProjector } from './test-faults.ts'

const brokers = testBrokers()
const log = openLog('query-api', 'fatal')
const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const connection = { applicationName: 'test', maxConnections: 4, onError: () => {} }
const projectorUrl = databases.read('sluice_projector')
const reader = cleanup.use(openPool({ ...connection, url: databases.read('sluice_query') }))
const database = databaseOver<ReadDatabase>(reader)
const admin = cleanup.use(openPool({ ...connection, url: projectorUrl }))
afterAll(() => cleanup.disposeAsync())

const patient = { timeout: 20_000, interval: 20 }

async function newTopic(partitions: number, name = `projector-${randomUUID()}`): Promise<string> {
  await createTopic(brokers, name, partitions)
  onTestFinished(() => deleteTopic(brokers, name).catch(() => {}))
  return name
}

async function publish(topic: string, rows: readonly OutboxRow[]): Promise<void> {
  await using producer = openProducer({ brokers, clientId: 'projector-test' })
  const records = rows.map((row) => ({ ...encode(row), topic }))
  await producer.publish(records, AbortSignal.timeout(20_000))
}

type Running = { status: ProjectionStatus; stop: () => Promise<void> }

function start(topic: string, { url = projectorUrl } = {}): Running {
  const status = newStatus('accounts', { topic, groupId: `group-${randomUUID()}` })
  const pool = openPool({ ...connection, url, settings: projectorSessionSettings, pipeline: true })
  const control = new AbortController()
  const running = runProjector({
    projection: accounts,
    pool,
    brokers,
    status,
    signal: control.signal,
    log,
    watchIntervalMs: 100,
  })
  running.catch(() => {})
  let stopped: Promise<void> | undefined
  const stop = () => {
    control.abort()
    stopped ??= (async () => {
      try {
        await running
      } finally {
        await pool.end()
      }
    })()
    return stopped
  }
  onTestFinished(() => stop())
  return { status, stop }
}

const names = (count: number, prefix: string = randomUUID()) =>
  Array.from({ length: count }, (_, index) => `${prefix}-${index}`)

async function allAt(ids: string[], version: number): Promise<boolean> {
  const versions = await accounts.versions(reader, ids)
  return ids.every((id) => versions.get(id) === version)
}

const reached = (ids: string[], version: number) => vi.waitUntil(() => allAt(ids, version), patient)

test('events published to Kafka are read by GET, with the token of the last of them', async () => {
  const topic = await newTopic(3)
  start(topic)
  const freshness = openFreshnesses(reader, { signal: new AbortController().signal })
  await using http = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    routes: accountRoutes({
      reader,
      database,
      freshnessOf: freshness.of,
      cursorSecret: 'x'.repeat(32),
    }),
    access: openToAll,
    readiness: async () => [],
    log,
    metrics: openMetrics('query-api'),
  })
  const [id] = names(1) as [string]
  const [response] = await Promise.all([
    fetch(`${http.url}/accounts/${id}`, {
      headers: { 'Consistency-Token': encodeToken(new Map([[id, 5]])), Prefer: 'wait=20' },
    }),
    publish(topic, historyOf(id, 5)),
  ])
  expect(response.headers.get('consistency')).toBe('fresh')
  expect(await response.json()).toMatchObject({ id, version: 5, ledgerBalance: '40' })
})

test('a topic delivered twice over is applied once, and heartbeats are noted', async () => {
  const topic = await newTopic(3)
  const ids = names(40)
  const rows = interleave(ids.map((id) => historyOf(id, 10)))
  const beat = { version: 1, type: heartbeatType, at: timeOf(1), payload: {} }
  await publish(topic, rows)
  await publish(topic, [...rows.slice(200), outboxRow({ ...beat, account: heartbeatIds[0]! })])
  const { status } = start(topic)
  await vi.waitUntil(() => status.applied + status.duplicates >= 600, patient)
  await vi.waitUntil(() => status.heartbeats === 1, patient)
  expect([status.applied, status.duplicates]).toEqual([400, 200])
  expect(await allAt(ids, 10)).toBe(true)
  await vi.waitUntil(
    () => status.lags.size === 3 && [...status.lags.values()].every(({ events }) => events === 0),
    patient,
  )
})

test('the process killed with -9 again and again: every event is applied once', async () => {
  const topic = await newTopic(2)
  const ids = names(20)
  const total = 2_000
  await publish(topic, interleave(ids.map((id) => historyOf(id, total / 20))))
  const stored = async () => {
    const { rows } = await admin.query<{ sum: string | null }>(
      'select sum(next_offset) as sum from read.offsets where topic = $1',
      [topic],
    )
    return Number(rows[0]?.sum ?? 0)
  }
  for (const threshold of [1, 400, 900]) {
    const child = spawnProjector({ topic, brokers, url: projectorUrl })
    onTestFinished(() => child.kill())
    await vi.waitUntil(async () => (await stored()) >= threshold, { timeout: 20_000, interval: 2 })
    await child.kill()
    expect(await stored()).toBeLessThan(total)
  }
  start(topic)
  await reached(ids, total / 20)
  expect(await stored()).toBe(total)
  for (const id of ids) {
    expect((await findAccount(reader, id))?.account).toMatchObject({ ledgerBalance: '990' })
  }
})

test('Postgres away is waited for, and then everything is applied once', async () => {
  const topic = await newTopic(2)
  await using proxy = await openTcpProxy(projectorUrl)
  const ids = names(10)
  const histories = ids.map((id) => historyOf(id, 6))
  const { status } = start(topic, { url: proxy.url })
  await publish(topic, interleave(histories.map((history) => history.slice(0, 3))))
  await reached(ids, 3)
  proxy.cut()
  await publish(topic, interleave(histories.map((history) => history.slice(3))))
  await vi.waitUntil(() => status.trouble !== undefined, patient)
  expect(await allAt(ids, 3)).toBe(true)
  proxy.mend()
  await reached(ids, 6)
  await vi.waitUntil(() => status.trouble === undefined, patient)
  expect(status.stopped.size).toBe(0)
})

test('a topic made anew while it is consumed is noticed, too', async () => {
  const topic = await newTopic(1)
  const [id, other] = names(2) as [string, string]
  await publish(topic, historyOf(id, 9))
  const { status } = start(topic)
  await reached([id], 9)
  await deleteTopic(brokers, topic)
  await newTopic(1, topic)
  await publish(topic, historyOf(other, 3))
  await vi.waitUntil(() => status.stopped.size === 1, patient)
  expect(status.stopped.get(0)?.code).toBe('topic_recreated')
  expect((await findAccount(reader, other))?.account).toBe(undefined)
})
