import { encodeToken } from 'command-api/token'
import { testDatabases } from 'local-stack/test-databases'
import { databaseOver, openPool } from 'migrations/database'
import type { ReadDatabase } from 'migrations/read'
import { openToAll } from 'service/access'
import { serveHttp } from 'service/http'
import { openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { afterAll, expect, test } from 'vitest'
import { openFreshnesses } from '../freshness.ts'
import type { ProjectedEvent, Projection } from '../projection.ts'
import { eventRow, historyOf, projected } from '../test-events.ts'
import { inTransaction } from '../transaction.ts'
import { accountRoutes } from './accounts-reads.ts'
import { accounts } from './accounts.ts'
import { dashboardRoutes } from './dashboard-reads.ts'
import { dashboard } from './dashboard.ts'
import { tierRoutes } from './tiers-reads.ts'
import { tiers } from './tiers.ts'
import { totalRoutes } from './totals-reads.ts'
import { totals } from './totals.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const connection = { applicationName: 'test', maxConnections: 4, onError: () => {} }
const pool = cleanup.use(
  openPool({ ...connection, url: databases.read('sluice_projector'), pipeline: true }),
)
const reader = cleanup.use(openPool({ ...connection, url: databases.read('sluice_query') }))
const database = databaseOver<ReadDatabase>(reader)
const { signal } = new AbortController()
const cursorSecret = 'a secret of at least 32 characters'
const settings = {
  reader,
  database,
  freshnessOf: openFreshnesses(reader, { signal }).of,
  cursorSecret,
}
const http = cleanup.use(
  await serveHttp({
    host: '127.0.0.1',
    port: 0,
    access: openToAll,
    metrics: openMetrics('query-api'),
    log: openLog('query-api', 'fatal'),
    routes: [accountRoutes, tierRoutes, totalRoutes, dashboardRoutes].flatMap((routes) =>
      routes(settings),
    ),
    readiness: async () => [],
  }),
)
afterAll(() => cleanup.disposeAsync())

type Item = Record<string, unknown>
type Body = Item & { items: Item[]; next: string | null }

async function get(path: string, headers: Record<string, string> = {}) {
  const {
    status,
    headers: said,
    ...rest
  } = await fetch(`${http.url}${path}`, { headers }).then(async (response) => ({
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as Body,
  }))
  return {
    status,
    consistency: said.get('consistency'),
    lag: said.get('consistency-lagging'),
    ...rest,
  }
}

const apply = (projections: readonly Projection[], events: readonly ProjectedEvent[]) =>
  inTransaction(pool, 5_000, async (transaction) => {
    for (const projection of projections) await projection.apply(transaction, events)
  })

const all = [accounts, tiers, totals, dashboard]
const withBalance = (id: string, balance: string) =>
  [eventRow(id, 1), eventRow(id, 2, { balance })].map(projected)
const idsOf = ({ body }: { body: Body }) => body.items.map(({ id }) => id)

test('members of a tier are a filter of accounts, beside all others and page by page', async () => {
  await apply(all, historyOf('poor', 2).map(projected))
  const ids = Array.from({ length: 12 }, (_, index) => `member-${String(index).padStart(2, '0')}`)
  for (const id of ids) await apply(all, withBalance(id, '10000'))
  await apply(all, withBalance('rich', '100000'))
  const { body } = await get('/tiers')
  type Tier = { currency: string; from: string | null; to: string | null }
  const names = (body.items as Tier[]).map(
    ({ currency, from, to }) => `${currency}:${from ?? ''}..${to ?? ''}`,
  )
  expect(names).toEqual(['EUR:..0', 'EUR:0..10000', 'EUR:10000..100000', 'EUR:100000..'])
  expect(body.items.map(({ count }) => count)).toEqual([0, 1, 12, 1])
  const lists = await Promise.all(names.map((name) => get(`/accounts?tier=${name}`)))
  expect(lists.map(idsOf)).toEqual([[], ['poor'], ids, ['rich']])
  expect(idsOf(await get('/accounts?tier=EUR:10000..100000&maxBalance=1'))).toEqual([])
  const seen: unknown[] = []
  let query = 'tier=EUR:10000..100000&limit=5'
  for (let page = 0; page < 5; page += 1) {
    const listed = await get(`/accounts?${query}`)
    seen.push(...idsOf(listed))
    if (listed.body.next === null) break
    query = `tier=EUR:10000..100000&limit=5&cursor=${listed.body.next}`
  }
  expect(seen).toEqual(ids)
})

test.each(['EUR:0..1', 'EUR', 'CHF:..0', 'EUR:..', ''])(
  'the tier "%s" is refused',
  async (name) => {
    expect(await get(`/accounts?tier=${name}`)).toMatchObject({
      status: 400,
      body: { code: 'invalid_request', errors: [{ pointer: 'query/tier' }] },
    })
  },
)

test.each(['/tiers?x=1', '/totals?currency=EUR', '/dashboard?x=1'])(
  '%s is refused: these take no parameters',
  async (path) => {
    expect(await get(path)).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
  },
)

test('each says which version of what time it is', async () => {
  for (const path of ['/tiers', '/totals', '/dashboard']) {
    const { body } = await get(path)
    expect(body).toMatchObject({ version: 28, asOf: '2026-01-01T00:02:00.000Z' })
  }
})

test('a token is held against the projections that the answer is taken from', async () => {
  const token = encodeToken(new Map([['late', 1]]))
  const headers = { 'Consistency-Token': token, Prefer: 'wait=0' }
  const paths = ['/tiers', '/totals', '/dashboard', '/accounts', '/accounts?tier=EUR:..0']
  const fresh = async () => {
    const answers = await Promise.all(paths.map((path) => get(path, headers)))
    expect(answers.map(({ status }) => status)).toEqual(paths.map(() => 200))
    return paths.filter((_, index) => answers[index]!.consistency === 'fresh')
  }
  const [opened] = historyOf('late', 1).map(projected)
  expect(await fresh()).toEqual([])
  await apply([accounts], [opened!])
  expect(await fresh()).toEqual(['/accounts'])
  await apply([tiers], [opened!])
  expect(await fresh()).toEqual(['/tiers', '/accounts', '/accounts?tier=EUR:..0'])
  await apply([totals], [opened!])
  expect((await get('/dashboard', headers)).lag).toBe('late=0/1')
  await apply([dashboard], [opened!])
  expect(await fresh()).toEqual(paths)
})

test('a sum that is waited for has the write in it', async () => {
  const totalOf = async (headers = {}) => {
    const { body } = await get('/totals', headers)
    return BigInt(body.items[0]!.ledgerBalance as string)
  }
  const before = await totalOf()
  await apply(all, historyOf('waited', 1).map(projected))
  const token = encodeToken(new Map([['waited', 2]]))
  const waiting = totalOf({ 'Consistency-Token': token, Prefer: 'wait=20' })
  await apply(all, [projected(eventRow('waited', 2, { balance: '777' }))])
  expect(await waiting).toBe(before + 777n)
})
