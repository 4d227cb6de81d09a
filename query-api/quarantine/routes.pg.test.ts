import { randomUUID } from 'node:crypto'
import { encodeToken } from 'command-api/token'
import { testDatabases } from 'local-stack/test-databases'
import { databaseOver, openPool } from 'migrations/database'
import type { ReadDatabase } from 'migrations/read'
import type { OutboxRow } from 'outbox-relay/wire'
import { openToAll } from 'service/access'
import { serveHttp } from 'service/http'
import { openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { afterAll, expect, test } from 'vitest'
import { applyChunk } from '../chunk.ts'
import { openFreshnesses } from '../freshness.ts'
import { accountRoutes } from '../projections/accounts-reads.ts'
import { accounts } from '../projections/accounts.ts'
import { projectionRoutes } from '../report.ts'
import { newStatus } from '../status.ts'
import { consumed, eventRow, historyOf, unstorableBalance } from '../test-events.ts'
import { openFeed } from './feed.ts'
import { Repairer } from './repairer.ts'
import { quarantineRoutes } from './routes.ts'
import { openTestFeed } from './test-feed.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const connection = { applicationName: 'test', maxConnections: 4, onError: () => {} }
const pool = cleanup.use(openPool({ ...connection, url: databases.read('sluice_projector') }))
const reader = cleanup.use(openPool({ ...connection, url: databases.read('sluice_query') }))
const database = databaseOver<ReadDatabase>(reader)
const commandApi = cleanup.use(await openTestFeed(databases))
const status = newStatus('accounts')
const { signal } = new AbortController()
const log = openLog('query-api', 'silent')
const shared = { pool, projection: accounts, status, signal, log }
let role: 'operator' | 'teller' = 'operator'
let withFeed = true
const repairers = {
  with: new Repairer({ ...shared, feed: openFeed(commandApi) }),
  without: new Repairer({ ...shared, status: newStatus('accounts'), feed: undefined }),
}
const http = cleanup.use(
  await serveHttp({
    host: '127.0.0.1',
    port: 0,
    access: { ...openToAll, identify: () => ({ name: 'olga', role }) },
    metrics: openMetrics('query-api'),
    log,
    readiness: async () => [],
    routes: [
      ...accountRoutes({
        reader,
        database,
        freshnessOf: openFreshnesses(reader, { signal }).of,
        cursorSecret: 'x'.repeat(32),
      }),
      ...projectionRoutes({
        database,
        statuses: [status],
        lookAtLog: async () => ({ bounds: new Map(), topicId: '' }),
      }),
      ...quarantineRoutes({
        database,
        pool,
        repairers: [
          {
            projection: accounts,
            get repairer() {
              return withFeed ? repairers.with : repairers.without
            },
          },
        ],
      }),
    ],
  }),
)
afterAll(() => cleanup.disposeAsync())

async function deliver(...rows: OutboxRow[]): Promise<void> {
  const records = rows.map((row, index) => consumed(row, BigInt(index)))
  const chunk = { topic: randomUUID(), partition: 4, fetchOffset: 0n, records }
  await applyChunk({ pool, projection: accounts, topicId: randomUUID() }, chunk)
}

type Body = Record<string, unknown> & { items: Record<string, unknown>[]; next: string | null }

async function ask(path: string, { method = 'GET', body, headers = {} }: Asked = {}) {
  const response = await fetch(`${http.url}${path}`, {
    method,
    headers: { ...headers, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = (await response.json()) as Body
  return { status: response.status, headers: response.headers, body: text }
}

type Asked = { method?: string; body?: unknown; headers?: Record<string, string> }

const act = (account: string, action: 'retry' | 'skip', body?: unknown) =>
  ask(`/projections/accounts/quarantine/${account}/${action}`, { method: 'POST', body })

test('the list says who is in quarantine, since when and why, in pages', async () => {
  const history = historyOf('list-a', 5)
  await deliver(history[0]!, history[2]!, ...historyOf('list-b', 3).slice(2), history[4]!)
  const first = await ask('/projections/accounts/quarantine?limit=1')
  expect(first.body.items).toMatchObject([
    {
      account: 'list-a',
      code: 'version_gap',
      wanted: 2,
      seen: 3,
      highest: 5,
      partition: 4,
      offset: 1,
      problem: null,
    },
  ])
  const rest = await ask(`/projections/accounts/quarantine?after=${first.body.next}`)
  expect(rest.body).toMatchObject({ items: [{ account: 'list-b', wanted: 1 }], next: null })
  const { body } = await ask('/projections')
  expect(body.items).toMatchObject([{ name: 'accounts', quarantined: 2, state: 'starting' }])
  expect(await ask('/projections/nothing/quarantine')).toMatchObject({
    status: 404,
    body: { code: 'projection_not_found' },
  })
})

test('an account in quarantine is answered as stored, and every answer says so', async () => {
  const history = historyOf('read', 4)
  await deliver(history[0]!, history[1]!, history[3]!)
  const plain = await ask('/accounts/read')
  expect(plain.body).toMatchObject({ version: 2 })
  expect(plain.headers.get('quarantined')).toBe('read=version_gap')
  const headers = (version: number) => ({
    'Consistency-Token': encodeToken(new Map([['read', version]])),
    Prefer: 'wait=0',
  })
  const reached = await ask('/accounts/read', { headers: headers(2) })
  expect(reached.headers.get('consistency')).toBe('fresh')
  const wanted = await ask('/accounts/read', { headers: headers(4) })
  expect(wanted.headers.get('consistency')).toBe('stale')
  const list = await ask('/accounts?limit=100')
  expect(list.headers.get('quarantined')).toContain('read=version_gap')
  await deliver(historyOf('unopened', 2)[1]!)
  const unknown = await ask('/accounts/unopened')
  expect([unknown.status, unknown.headers.get('quarantined')]).toEqual([
    404,
    'unopened=version_gap',
  ])
  const contradicted = [...historyOf('other', 2), eventRow('other', 2, { balance: '99' })]
  await deliver(...contradicted)
  const token = { 'Consistency-Token': encodeToken(new Map([['other', 2]])), Prefer: 'wait=0' }
  const untrusted = await ask('/accounts/other', { headers: token })
  expect(untrusted.headers.get('consistency')).toBe('stale')
  expect((await ask('/accounts/list-c')).headers.has('quarantined')).toBe(false)
})

test('retry repairs at once and says what came of it', async () => {
  const history = historyOf('retry', 4)
  await deliver(history[0]!, history[2]!)
  expect(await act('retry', 'retry')).toMatchObject({
    status: 200,
    body: { released: false, problem: 'unknown_to_feed' },
  })
  await commandApi.record(history)
  expect((await act('retry', 'retry')).body).toMatchObject({ released: true, problem: null })
  expect((await ask('/accounts/retry')).body).toMatchObject({ version: 4 })
  expect(await act('retry', 'retry')).toMatchObject({
    status: 404,
    body: { code: 'not_in_quarantine' },
  })
})

test('skip needs a reason, leaves out what cannot be stored, and is written down', async () => {
  const history = historyOf('skip', 5).with(3, eventRow('skip', 4, { balance: unstorableBalance }))
  await commandApi.record(history)
  await deliver(...history.slice(0, 4))
  expect(await act('skip', 'skip', {})).toMatchObject({ status: 400 })
  expect(await act('skip', 'skip', { reason: '  ' })).toMatchObject({ status: 400 })
  const { body } = await act('skip', 'skip', { reason: 'ticket 12: a balance of no account' })
  expect(body).toMatchObject({ released: true, problem: null })
  expect((await ask('/accounts/skip')).body).toMatchObject({ version: 5, ledgerBalance: '40' })
  const { rows } = await pool.query(
    `select caller, role, action, reason, before->>'highest' as highest,
        after->>'skip_through' as through from read.audit where account_id = 'skip'`,
  )
  expect(rows).toEqual([
    {
      caller: 'olga',
      role: 'operator',
      action: 'quarantine_skip',
      reason: 'ticket 12: a balance of no account',
      highest: '4',
      through: '4',
    },
  ])
  await expect(pool.query('delete from read.audit')).rejects.toMatchObject({ code: '42501' })
})

test('a record that says nothing of its account goes when it is skipped', async () => {
  const [row] = historyOf('nameless', 1)
  const chunk = { topic: randomUUID(), partition: 2, fetchOffset: 7n }
  const records = [{ ...consumed(row!, 7n), key: null }]
  await pool.query(`insert into read.offsets values ('accounts', $1, 2, gen_random_uuid(), 7)`, [
    chunk.topic,
  ])
  const { rows } = await pool.query<{ id: string }>(
    'select topic_id as id from read.offsets where topic = $1',
    [chunk.topic],
  )
  const settings = { pool, projection: accounts, topicId: rows[0]!.id }
  await applyChunk(settings, { ...chunk, records })
  const id = encodeURIComponent('record-2@7')
  expect((await act(id, 'retry')).body).toMatchObject({ released: false, problem: 'no_account' })
  const { body } = await act(id, 'skip', { reason: 'sent by hand, ours is sound' })
  expect(body).toMatchObject({ released: true })
})

test('only operators act, and without the feed nobody can', async () => {
  const history = historyOf('denied', 3)
  await deliver(history[0]!, history[2]!)
  role = 'teller'
  expect(await act('denied', 'retry')).toMatchObject({ status: 403, body: { code: 'not_allowed' } })
  expect(await act('denied', 'skip', { reason: 'because' })).toMatchObject({ status: 403 })
  role = 'operator'
  withFeed = false
  const refused = await act('denied', 'retry')
  expect(refused).toMatchObject({ status: 503, body: { code: 'feed_missing' } })
  expect(refused.body.detail).toContain('COMMAND_API_URL')
  withFeed = true
})
