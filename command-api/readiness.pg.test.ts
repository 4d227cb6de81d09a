import { randomUUID } from 'node:crypto'
import { waitUntil } from 'local-stack'
import { testDatabases, type TestDatabases } from 'local-stack/test-databases'
import { openPool, type Pool } from 'migrations/database'
import { Client } from 'pg'
import { openToAll } from 'service/access'
import { serveHttp, type HttpService } from 'service/http'
import { openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Executor } from './executor.ts'
import { birth } from './form.ts'
import { commandRoutes } from './routes.ts'
import { openWire } from './test-wire.ts'
import { readiness, writeQueryTimeoutMs, writeSessionSettings } from './write-database.ts'

let databases: TestDatabases
let wire: Awaited<ReturnType<typeof openWire>>
let pool: Pool
let http: HttpService
const log = openLog('test', 'fatal')

beforeEach(async () => {
  databases = await testDatabases()
  wire = await openWire(databases.write('sluice_command'))
  pool = openPool({
    url: wire.url,
    applicationName: 'readiness-test',
    maxConnections: 6,
    settings: writeSessionSettings,
    queryTimeoutMs: writeQueryTimeoutMs,
    onError: () => {},
  })
  const executor = new Executor({ pool, log, newId: birth.newId })
  http = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    routes: commandRoutes({ executor, pool, birth, log, forceDebitLimit: 0n }).routes,
    access: openToAll,
    readiness: () => readiness(pool, executor),
    log,
    metrics: openMetrics('test'),
  })
})

afterEach(async () => {
  await http[Symbol.asyncDispose]()
  await pool.end()
  await wire[Symbol.asyncDispose]()
  await databases[Symbol.asyncDispose]()
})

async function health(path: '/livez' | '/readyz') {
  const response = await fetch(http.url + path, { signal: AbortSignal.timeout(8_000) })
  const { late = [] } = (await response.json()) as { late?: string[] }
  return { status: response.status, late }
}

async function command(path: string, body: Record<string, string>): Promise<number> {
  const headers = { 'idempotency-key': randomUUID(), 'content-type': 'application/json' }
  const init = { method: 'POST', headers, body: JSON.stringify(body) }
  return (await fetch(http.url + path, init)).status
}

const openAda = () => command('/accounts', { id: 'ada', owner: 'Ada', currency: 'EUR' })
const deposit = () => command('/accounts/ada/deposits', { amount: '1', currency: 'EUR' })
const ready = () =>
  waitUntil(async () => (await health('/readyz')).status === 200, {
    what: 'readiness',
    deadlineMs: 20_000,
  })

test('while the database hangs /readyz says so, of new connections too; /livez is as ever', async () => {
  expect(await openAda()).toBe(201)
  expect(await health('/readyz')).toEqual({ status: 200, late: [] })
  wire.freeze()
  // The first meets a connection that was good; those after it wait for one to be made.
  for (let asked = 0; asked < 2; asked += 1) {
    const { status, late } = await health('/readyz')
    expect(status).toBe(503)
    expect(late).toEqual([expect.stringMatching(/^the write database does not answer: /)])
  }
  expect(await health('/livez')).toEqual({ status: 200, late: [] })
  wire.thaw()
  await ready()
  expect(await deposit()).toBe(201)
})

test('commands that hang are said while the database answers everybody else', async () => {
  expect(await openAda()).toBe(201)
  const holder = new Client({ connectionString: databases.write() })
  await holder.connect()
  try {
    await holder.query(`begin; select from ledger.accounts where id = 'ada' for update`)
    const waiting = deposit()
    const late = await waitUntil(
      async () => {
        const { status, late } = await health('/readyz')
        return status === 503 && late
      },
      { what: 'a command that has waited too long', deadlineMs: 4_500 },
    )
    expect(late).toEqual([
      expect.stringMatching(/^commands have waited \d{4} ms for the write database$/),
    ])
    await holder.query('rollback')
    expect(await waiting).toBe(201)
    expect(await health('/readyz')).toEqual({ status: 200, late: [] })
  } finally {
    await holder.end()
  }
})
