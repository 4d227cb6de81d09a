import {
  chmodSync,
  existsSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Client } from 'pg'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { openDataFolder, type DataFolder } from '../data-folder.ts'
import { processIdentity } from '../processes/process-identity.ts'
import { findFreePorts } from '../processes/ports.ts'
import { waitUntil } from '../wait-until.ts'
import { removePostgresHome } from './postgres-home.ts'
import { ensureDatabase, startPostgres, type Postgres } from './postgres.ts'

let parent: string
let port: number
let cleanup: AsyncDisposableStack
beforeEach(async () => {
  parent = mkdtempSync(join(tmpdir(), 'sluice-postgres-'))
  chmodSync(parent, 0o755)
  ;[port = 0] = await findFreePorts(1)
  cleanup = new AsyncDisposableStack()
  cleanup.defer(() => rmSync(parent, { recursive: true }))
})
afterEach(() => cleanup.disposeAsync())

async function open(name = 'data'): Promise<DataFolder> {
  return openDataFolder(join(parent, name))
}

async function start(dataFolder: DataFolder, options = {}): Promise<Postgres> {
  const password = 'of the test: /@:%'
  const postgres = await startPostgres({ dataFolder, port, password, durable: false, ...options })
  cleanup.defer(() => postgres.stop())
  return postgres
}

async function ask(url: string, sql: string): Promise<unknown> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<Record<string, unknown>>(sql)
    return rows[0] && Object.values(rows[0])[0]
  } finally {
    await client.end()
  }
}

test('data survive a stop, settings are ours and the caller’s, and only the password lets in', async () => {
  const folder = cleanup.use(await open())
  const first = await start(folder, { settings: { max_slot_wal_keep_size: '7MB' } })
  expect(first.created).toBe(true)
  expect(await ask(first.url(), 'show wal_level')).toBe('logical')
  expect(await ask(first.url(), 'show max_slot_wal_keep_size')).toBe('7MB')
  expect(await ask(first.url(), 'show listen_addresses')).toBe('127.0.0.1')
  expect(await ensureDatabase(first.url(), 'kept')).toBe(true)
  await ask(first.url('kept'), 'create table t as select 41 + 1 as answer')
  const wrong = first.url().replace(/:[^:@]+@/, ':wrong@')
  await expect(ask(wrong, 'select 1')).rejects.toMatchObject({ code: '28P01' })
  await first.stop()
  expect(await first.exited).toEqual({ code: 0, signal: null })

  const second = await start(folder)
  expect(second.created).toBe(false)
  expect(await ensureDatabase(second.url(), 'kept')).toBe(false)
  expect(await ask(second.url('kept'), 'select answer from t')).toBe(42)
})

test('after kill -9 it starts again on the same data, with backends still leaving', async () => {
  const folder = cleanup.use(await open())
  const first = await start(folder)
  await ask(first.url(), 'create table t as select 42 as answer')
  const busy = new Client({ connectionString: first.url() })
  busy.on('error', () => {})
  await busy.connect()
  // It does not notice its postmaster's death before the statement ends.
  const query =
    busy.query(`do $$ declare until timestamptz := clock_timestamp() + interval '700 ms';
    begin while clock_timestamp() < until loop null; end loop; end $$`)
  query.catch(() => {})
  await waitUntil(
    async () =>
      (await ask(
        first.url(),
        "select count(*) from pg_stat_activity where query like 'do%' and state = 'active'",
      )) === '1',
    { what: 'a busy backend' },
  )
  first.kill('SIGKILL')
  expect(await first.exited).toEqual({ code: null, signal: 'SIGKILL' })
  const second = await start(folder)
  expect(await ask(second.url(), 'select answer from t')).toBe(42)
  await busy.end().catch(() => {})
})

test('a server whose starter was killed is stopped by the next start of its folder', async () => {
  const left = await open()
  const orphan = await start(left)
  // What a killed starter leaves: no lock, and the ledger that names its server.
  await left[Symbol.asyncDispose]()
  const folder = cleanup.use(await open())
  expect(folder.orphans).toEqual(['postgres'])
  expect(processIdentity(orphan.pid)).toBeUndefined()
  expect((await start(folder)).created).toBe(false)
})

test('a pid file that names somebody else’s process by now does not stop it', async () => {
  const folder = cleanup.use(await open())
  const first = await start(folder)
  await first.stop()
  const stale = `${process.pid}\n${folder.file('postgres/cluster')}\n1700000000\n${port}\n\n127.0.0.1\n`
  writeFileSync(folder.file('postgres/cluster/postmaster.pid'), stale)
  expect(await ask((await start(folder)).url(), 'select 1')).toBe(1)
})

test('whoever answers on the port already is not taken for the server that was started', async () => {
  await start(cleanup.use(await open()))
  await expect(start(cleanup.use(await open('other')))).rejects.toMatchObject({
    code: 'postgres_start_failed',
    message: expect.stringMatching(/Address already in use/),
  })
})

test('a failed start says so with the end of the log', async () => {
  const folder = cleanup.use(await open())
  const refusal = start(folder, { settings: { shared_buffers: 'plenty' } })
  await expect(refusal).rejects.toMatchObject({
    code: 'postgres_start_failed',
    message: expect.stringMatching(/invalid value for parameter "shared_buffers"/),
  })
})

test('another password than the data were made with is a clear error', async () => {
  const folder = cleanup.use(await open())
  await (await start(folder)).stop()
  await expect(start(folder, { password: 'another' })).rejects.toMatchObject({
    code: 'postgres_password_refused',
  })
})

test('an initialisation that was cut off is begun anew', async () => {
  const folder = cleanup.use(await open())
  const cut = new AbortController()
  const starting = start(folder, { signal: cut.signal })
  cut.abort(new Error('cut'))
  await expect(starting).rejects.toThrow('cut')
  expect((await start(folder)).created).toBe(true)
})

test.runIf(process.getuid?.() === 0)(
  'below a folder that only root may enter, data live elsewhere, and a folder made anew begins anew',
  async () => {
    chmodSync(parent, 0o700)
    const folder = await open()
    const postgres = await start(folder)
    expect(postgres.note).toMatch(/^outside root's folders: data in \/var\/tmp\/sluice-/)
    const place = realpathSync(folder.file('postgres'))
    cleanup.defer(() => rmSync(dirname(place), { recursive: true }))
    expect(statSync(place).mode & 0o777).toBe(0o700)
    await postgres.stop()
    expect(await (await start(folder)).stop()).toBeUndefined()
    await folder[Symbol.asyncDispose]()

    rmSync(folder.path, { recursive: true })
    const anew = cleanup.use(await open())
    expect((await start(anew, { password: 'another' })).created).toBe(true)
    cleanup.defer(() => removePostgresHome(anew.path))
  },
)

test.runIf(process.getuid?.() === 0)(
  'an ephemeral folder takes its data elsewhere along',
  async () => {
    chmodSync(parent, 0o700)
    vi.stubEnv('TMPDIR', parent)
    const folder = await openDataFolder()
    vi.unstubAllEnvs()
    await (await start(folder)).stop()
    const place = realpathSync(folder.file('postgres'))
    expect(place).toMatch(/^\/var\/tmp\/sluice-/)
    await folder[Symbol.asyncDispose]()
    expect(existsSync(dirname(place))).toBe(false)
    expect(existsSync(folder.path)).toBe(false)
  },
)
