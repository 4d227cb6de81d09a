import { encodeToken } from 'command-api/token'
import { testDatabases } from 'local-stack/test-databases'
import { databaseOver, openPool } from 'migrations/database'
import type { ReadDatabase } from 'migrations/read'
import { openToAll } from 'service/access'
import { serveHttp } from 'service/http'
import { openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { afterAll, expect, test } from 'vitest'
import { openFreshnesses } from './freshness.ts'
import { projectionMetrics } from './projection-metrics.ts'
import { accountRoutes } from './projections/accounts-reads.ts'
import { accounts } from './projections/accounts.ts'
import { projectionReadiness } from './readiness.ts'
import { projectionRoutes } from './report.ts'
import { newStatus } from './status.ts'
import { eventRow, historyOf, projected } from './test-events.ts'
import { inTransaction } from './transaction.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const connection = { applicationName: 'test', maxConnections: 4, onError: () => {} }
const pool = cleanup.use(openPool({ ...connection, url: databases.read('sluice_projector') }))
const reader = cleanup.use(openPool({ ...connection, url: databases.read('sluice_query') }))
const database = databaseOver<ReadDatabase>(reader)
const status = newStatus('accounts')
/** One that only other processes run. */
const other = { ...newStatus('other'), elsewhere: true }
const metrics = openMetrics('query-api')
const freshness = openFreshnesses(reader, { signal: new AbortController().signal })
projectionMetrics(metrics.registry, [status], freshness.waiters)
const cursorSecret = 'a secret of at least 32 characters'
const lookAtLog = async () => ({ bounds: new Map([[0, { low: 0n, high: 20n }]]), topicId: '' })
const http = cleanup.use(
  await serveHttp({
    host: '127.0.0.1',
    port: 0,
    access: openToAll,
    metrics,
    log: openLog('query-api', 'fatal'),
    routes: [
      ...accountRoutes({ reader, database, freshnessOf: freshness.of, cursorSecret }),
      ...projectionRoutes({ database, statuses: [status, other], lookAtLog }),
    ],
    readiness: projectionReadiness({
      database,
      statuses: [status],
      heartbeatSeconds: 1,
      stages: { 'command-api': 'http://127.0.0.1:1', 'outbox-relay': undefined },
    }),
  }),
)
afterAll(() => cleanup.disposeAsync())

type Body = Record<string, unknown> & { items: { id: string }[]; next: string | null }

async function get(path: string, headers: Record<string, string> = {}) {
  const response = await fetch(`${http.url}${path}`, { headers })
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as Body,
  }
}

const open = (ids: string[], count = 1) =>
  inTransaction(pool, 5_000, (transaction) =>
    accounts.apply(
      transaction,
      ids.flatMap((id) => historyOf(id, count).map(projected)),
    ),
  )

test('an account is answered with its version as ETag, an unknown one with 404', async () => {
  await open(['one'], 2)
  const found = await get('/accounts/one')
  expect(found.status).toBe(200)
  expect(found.headers.get('etag')).toBe('"2"')
  expect(found.body).toMatchObject({ id: 'one', ledgerBalance: '10', available: '10', version: 2 })
  expect(await get('/accounts/none')).toMatchObject({
    status: 404,
    body: { code: 'account_not_found' },
  })
})

test.each([
  '/accounts/a%20b',
  '/accounts/one?x=1',
  '/accounts?owners=Ada',
  '/accounts?owner=',
  '/accounts?owner=a&owner=b',
  '/accounts?owner=%00',
  '/accounts?limit=0',
  '/accounts?limit=101',
  '/accounts?limit=ten',
  '/accounts?status=frozen',
  '/accounts?currency=eur',
  '/accounts?minBalance=1.5',
  '/accounts?minBalance=1e3',
  '/accounts?maxBalance=9999999999999999999',
  '/accounts?openedFrom=yesterday',
  '/accounts?openedFrom=2026-02-30T00:00:00Z',
])('%s is refused', async (path) => {
  expect(await get(path)).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
})

test('times and balances at the edges of what is allowed are answered', async () => {
  for (const query of [
    'openedFrom=0000-01-01T00:00:00Z',
    'openedTo=9999-12-31T23:59:59.999999Z',
    'minBalance=-999999999999999999&maxBalance=999999999999999999',
  ]) {
    expect(await get(`/accounts?${query}`)).toMatchObject({ status: 200 })
  }
})

test('each filter keeps what it says', async () => {
  const ids = ['filter-a', 'filter-b', 'filter-c']
  await open(ids)
  const balance = '5000'
  await inTransaction(pool, 5_000, (transaction) =>
    accounts.apply(transaction, [projected(eventRow('filter-b', 2, { balance }))]),
  )
  await pool.query(`update read.accounts set owner = 'Ada', currency = 'USD' where id = any($1)`, [
    ids,
  ])
  await pool.query(`update read.accounts set status = 'closed' where id = 'filter-c'`)
  await pool.query(`update read.accounts set opened_at = '2020-01-01' where id = 'filter-a'`)
  const list = async (query: string) =>
    (await get(`/accounts?owner=Ada&${query}`)).body.items.map(({ id }) => id)
  expect(await list('')).toEqual(ids)
  expect(await list('currency=EUR')).toEqual([])
  expect(await list('currency=USD&status=open')).toEqual(['filter-a', 'filter-b'])
  expect(await list('minBalance=5000')).toEqual(['filter-b'])
  expect(await list('maxBalance=4999')).toEqual(['filter-a', 'filter-c'])
  expect(await list('openedTo=2020-01-01T00:00:00Z')).toEqual([])
  expect(await list('openedFrom=2020-01-01T00:00:00Z&openedTo=2020-01-02T00:00:00Z')).toEqual([
    'filter-a',
  ])
})

test('a cursor walks over every account once while others are opened and changed', async () => {
  const ids = Array.from({ length: 25 }, (_, index) => `walk-${String(index * 2).padStart(3, '0')}`)
  await open(ids)
  await pool.query(`update read.accounts set owner = 'Walker' where id like 'walk-%'`)
  const seen: string[] = []
  let query = 'owner=Walker&limit=7'
  for (let page = 0; page < 10; page += 1) {
    const { body } = await get(`/accounts?${query}`)
    seen.push(...body.items.map(({ id }) => id))
    if (body.next === null) break
    query = `owner=Walker&limit=7&cursor=${body.next}`
    // Behind the cursor and before it: neither repeats nor hides one of those there from the start.
    await open([`walk-${String(page).padStart(3, '0')}x`])
    await pool.query(
      `update read.accounts set owner = 'Walker', as_of = now() where id like 'walk-%'`,
    )
  }
  expect(new Set(seen).size).toBe(seen.length)
  expect(seen.filter((id) => !id.endsWith('x'))).toEqual(ids)
})

test('a cursor under other filters, or tampered with, is refused', async () => {
  await open(['cursor-a', 'cursor-b'])
  const { body } = await get('/accounts?limit=1&currency=EUR')
  const refused = { status: 400, body: { code: 'invalid_cursor' } }
  expect(await get(`/accounts?limit=2&currency=EUR&cursor=${body.next}`)).toMatchObject({
    status: 200,
  })
  expect(await get(`/accounts?limit=1&cursor=${body.next}`)).toMatchObject(refused)
  expect(await get(`/accounts?currency=USD&cursor=${body.next}`)).toMatchObject(refused)
  expect(await get(`/accounts?currency=EUR&cursor=${body.next}A`)).toMatchObject(refused)
  expect(await get('/accounts?cursor=abc')).toMatchObject(refused)
})

test('a read with a token waits for the write it names', async () => {
  await open(['token'])
  const headers = { 'Consistency-Token': encodeToken(new Map([['token', 2]])), Prefer: 'wait=20' }
  const waiting = get('/accounts/token', headers)
  await expect.poll(() => freshness.waiters()).toBe(1)
  await inTransaction(pool, 5_000, (transaction) =>
    accounts.apply(transaction, [projected(eventRow('token', 2))]),
  )
  const answer = await waiting
  expect(answer.body.version).toBe(2)
  expect(answer.headers.get('consistency')).toBe('fresh')
  expect(answer.headers.get('preference-applied')).toBe('wait=20')
})

test('a token not reached says stale, with the account and its versions, on a 404 too', async () => {
  await open(['stale'])
  const token = (account: string) => encodeToken(new Map([[account, 3]]))
  const ask = (account: string, more = {}) =>
    get(`/accounts/${account}`, { 'Consistency-Token': token(account), Prefer: 'wait=0', ...more })
  const stale = await ask('stale')
  expect(stale.status).toBe(200)
  expect(stale.headers.get('consistency')).toBe('stale')
  expect(stale.headers.get('consistency-lagging')).toBe('stale=1/3')
  const unknown = await ask('unknown')
  expect(unknown.status).toBe(404)
  expect(unknown.headers.get('consistency-lagging')).toBe('unknown=0/3')
  const strict = await ask('stale', { 'Consistency-Mode': 'strict' })
  expect(strict).toMatchObject({ status: 503, body: { code: 'projection_late' } })
  expect(strict.headers.get('retry-after')).toBe('1')
  expect(await get('/accounts/stale', { 'Consistency-Token': 'x' })).toMatchObject({
    status: 400,
    body: { code: 'invalid_token' },
  })
})

test('/projections tells how far each partition is, and why one stopped', async () => {
  status.assigned = [0, 1]
  status.log = new Map([0, 1, 2].map((partition) => [partition, { low: 0n, high: 10n }]))
  await pool.query(`insert into read.offsets
      (projection, topic, partition, topic_id, next_offset, through_at)
    select 'accounts', 'account-events', p, gen_random_uuid(), 4 + p,
      now() - (90 + p) * interval '1 second' from generate_series(0, 2) p`)
  await pool.query(`insert into read.offsets values
    ('other', 'account-events', 0, gen_random_uuid(), 18, now() - interval '7 seconds')`)
  status.stopped.set(1, { code: 'records_missing', detail: 'gone', offset: 5n })
  const { body } = await get('/projections')
  const [report, elsewhere] = body.items as unknown as Record<string, unknown>[]
  expect(report).toMatchObject({ name: 'accounts', state: 'stopped', lag: 15, applied: 0 })
  expect(report!.partitions).toMatchObject([
    { partition: 0, state: 'running', next: 4, high: 10, lag: 6, reason: null },
    { partition: 1, state: 'stopped', next: 5, reason: { code: 'records_missing', offset: 5 } },
    { partition: 2, state: 'elsewhere', next: 6 },
  ])
  const seconds = (report!.partitions as { lagSeconds: number }[]).map((each) => each.lagSeconds)
  expect(seconds.map(Math.round)).toEqual([90, 91, 92])
  expect(Math.round(report!.lagSeconds as number)).toBe(92)
  expect(elsewhere).toMatchObject({ name: 'other', state: 'elsewhere', lag: 2 })
  expect(Math.round(elsewhere!.lagSeconds as number)).toBe(7)
  const figures = await (await fetch(`${http.url}/metrics`)).text()
  expect(figures).toMatch(/sluice_projection_stopped_partitions\{.*accounts.*\} 1/)
  status.stopped.clear()
})

test('/readyz says in sentences what is late, and which stage', async () => {
  const late = async () => (await get('/readyz')) as { status: number; body: { late?: string[] } }
  expect((await late()).body.late).toEqual([
    'projection accounts has not seen a heartbeat yet',
    'command-api does not answer',
  ])
  const beat = (age: string) =>
    pool.query(
      `insert into read.heartbeats select 'accounts', p, now() - $1::interval, now()
         from generate_series(0, 2) p
       on conflict (projection, partition) do update set occurred_at = excluded.occurred_at`,
      [age],
    )
  await beat('20 s')
  expect((await late()).body.late?.[0]).toContain('20 s ago')
  await beat('1 s')
  expect(await late()).toMatchObject({ status: 200 })
})
