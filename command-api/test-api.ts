import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { testDatabases, type TestDatabases } from 'local-stack/test-databases'
import { openPool } from 'migrations/database'
import { hashOfAccessKey, openAccess } from 'service/access'
import { serveHttp } from 'service/http'
import { openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { Executor } from './executor.ts'
import { feedRoutes } from './feed.ts'
import { birth, type Birth } from './form.ts'
import { commandRoutes } from './routes.ts'
import { readiness, writeSessionSettings } from './write-database.ts'

export type Sent = { method?: string; headers?: Record<string, string | null>; body?: unknown }

export type TestApi = Awaited<ReturnType<typeof testApi>>

export type TestApiSettings = {
  birth: Birth
  /** Of another API, which ends later: as two processes of one service. */
  databases?: TestDatabases
  /** Where it finds the write database, when not there itself. */
  through?: (url: string) => Promise<{ url: string } & AsyncDisposable>
  patienceMs?: number
}

/**
 * The command API on databases of its own, unless it is given some, with a teller (`the-key`) and an
 * operator.
 */
export async function testApi(given: Partial<TestApiSettings> = {}) {
  const cleanup = new AsyncDisposableStack()
  const databases = given.databases ?? cleanup.use(await testDatabases())
  const { through, patienceMs = 5_000, birth: born = birth } = given
  const straight = databases.write('sluice_command')
  const url = through === undefined ? straight : cleanup.use(await through(straight)).url
  const folder = await mkdtemp(join(tmpdir(), 'sluice-test-'))
  cleanup.defer(() => rm(folder, { recursive: true }))
  const keys = ['teller', 'operator', 'customer'].map((role) => ({
    sha256: hashOfAccessKey(role === 'teller' ? 'the-key' : `the-${role}`),
    caller: role === 'teller' ? 'tester' : role,
    role,
  }))
  await writeFile(join(folder, 'keys.json'), JSON.stringify({ keys }))
  const pool = cleanup.use(
    openPool({
      url,
      applicationName: 'http-test',
      maxConnections: 6,
      settings: writeSessionSettings,
      pipeline: true,
      onError: () => {},
    }),
  )
  const log = openLog('test', 'fatal')
  const executor = new Executor({ pool, log, newId: born.newId, patienceMs })
  const access = openAccess(join(folder, 'keys.json'), log)
  cleanup.defer(() => access.close())
  const settings = { executor, pool, birth: born, log, forceDebitLimit: 100n }
  const { routes, operations } = commandRoutes(settings)
  const http = cleanup.use(
    await serveHttp({
      host: '127.0.0.1',
      port: 0,
      routes: [...routes, ...feedRoutes(pool)],
      access,
      readiness: () => readiness(pool),
      log,
      metrics: openMetrics('test'),
    }),
  )
  return {
    databases,
    pool,
    http,
    executor,
    operations,
    log,
    ...client(http.url),
    [Symbol.asyncDispose]: () => cleanup.disposeAsync(),
  }
}

function client(url: string) {
  /** Sends a request that is right but for what `sent` changes; a null header is left out. */
  async function send(path: string, { method = 'POST', headers = {}, body }: Sent = {}) {
    const all = {
      authorization: 'Bearer the-key',
      'idempotency-key': randomUUID(),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    }
    const given = Object.entries(all).filter(
      (entry): entry is [string, string] => entry[1] !== null,
    )
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const init = { method, headers: given, ...(text === undefined ? {} : { body: text }) }
    const response = await fetch(url + path, init)
    const answer = await response.text()
    const type = response.headers.get('content-type')
    return { status: response.status, headers: response.headers, type, json: JSON.parse(answer) }
  }

  /** Opens an account, of EUR unless told otherwise. */
  async function opened(openingDeposit?: string, fields: object = {}) {
    const body = { owner: 'Ada', currency: 'EUR', openingDeposit, ...fields }
    const { json } = await send('/accounts', { body })
    return json as { id: string; version: number }
  }

  return { send, opened }
}

/** Rows in every table that a command could write. */
export async function rowsWritten({ pool }: Pick<TestApi, 'pool'>): Promise<string> {
  const ledger = ['accounts', 'account_events', 'entries', 'holds', 'reversals', 'operations']
  const tables = [...ledger, 'idempotency'].map((table) => `ledger.${table}`)
  const counts = [...tables, 'outbox.events'].map((table) => `(select count(*) from ${table})`)
  const { rows } = await pool.query(`select concat_ws(' ', ${counts.join()}) as counts`)
  return rows[0].counts
}
