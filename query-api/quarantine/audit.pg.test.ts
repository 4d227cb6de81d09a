import { randomUUID } from 'node:crypto'
import { testDatabases } from 'local-stack/test-databases'
import { databaseOver, openPool } from 'migrations/database'
import type { ReadDatabase } from 'migrations/read'
import { openLog } from 'service/log'
import type { ApiRequest, Route } from 'service/route'
import { afterAll, expect, test } from 'vitest'
import { applyChunk } from '../chunk.ts'
import { openFreshnesses } from '../freshness.ts'
import { accounts } from '../projections/accounts.ts'
import { queryRoutes } from '../query-routes.ts'
import { newStatus } from '../status.ts'
import { consumed, historyOf } from '../test-events.ts'
import { Repairer } from './repairer.ts'

// Every route that changes something, and what is then to be in read.audit. A new one fails the first
// test until it is here, and the second until it is written down.

const reason = 'ticket 12: as it was asked for'
const acts: Readonly<Record<string, { action: string; after: object }>> = {
  'POST /projections/:name/quarantine/:account/retry': {
    action: 'quarantine_retry',
    after: { highest: 3, skip_through: null },
  },
  'POST /projections/:name/quarantine/:account/skip': {
    action: 'quarantine_skip',
    after: { highest: 0, skip_through: 3 },
  },
}

const cleanup = new AsyncDisposableStack()
afterAll(() => cleanup.disposeAsync())
const databases = cleanup.use(await testDatabases())
const connection = { applicationName: 'test', maxConnections: 4, onError: () => {} }
const pool = cleanup.use(openPool({ ...connection, url: databases.read('sluice_projector') }))
const reader = cleanup.use(openPool({ ...connection, url: databases.read('sluice_query') }))
const { signal } = new AbortController()
const status = newStatus('accounts')
const log = openLog('query-api', 'silent')
const shared = { pool, projection: accounts, status, signal, log }
const repairer = new Repairer({ ...shared, feed: undefined })
const routes = queryRoutes({
  reader,
  database: databaseOver<ReadDatabase>(reader),
  freshnessOf: openFreshnesses(reader, { signal }).of,
  cursorSecret: 'x'.repeat(32),
  reads: true,
  statuses: [status],
  lookAtLog: async () => ({ bounds: new Map(), topicId: '' }),
  pool,
  repairers: [{ projection: accounts, repairer }],
})

const nameOf = ({ method, path }: Route) => `${method} ${path}`
const changing = (all: readonly Route[]) => all.filter(({ method }) => method !== 'GET').map(nameOf)

async function linesOf(account: string): Promise<Record<string, unknown>[]> {
  const { rows } = await pool.query<Record<string, unknown>>(
    `select caller, role, action, before, after, reason,
            clock_timestamp() - at between interval '0' and interval '1 minute' as "isNow"
       from read.audit where account_id = $1 order by id`,
    [account],
  )
  return rows
}

test('every route that changes something is in the table', () => {
  expect(changing(routes).toSorted()).toEqual(Object.keys(acts).toSorted())
  const unheard: Route = { method: 'POST', path: '/unheard', handle: () => ({ status: 200 }) }
  expect(changing([...routes, unheard])).not.toEqual(Object.keys(acts))
})

test.each(Object.entries(acts))('%s is written down, and so is why', async (name, act) => {
  const account = act.action
  const history = historyOf(account, 3)
  const records = [history[0]!, history[2]!].map((row, index) => consumed(row, BigInt(index)))
  const chunk = { topic: randomUUID(), partition: 4, fetchOffset: 0n, records }
  await applyChunk({ pool, projection: accounts, topicId: randomUUID() }, chunk)
  const route = routes.find((each) => nameOf(each) === name)
  const ask = async (role: string) =>
    route?.handle({
      caller: { name: 'olga', role },
      params: { name: 'accounts', account },
      query: {},
      body: { reason },
    } as unknown as ApiRequest)
  await expect(ask('teller')).rejects.toMatchObject({ code: 'not_allowed' })
  expect(await linesOf(account)).toEqual([])
  // The act itself is done; it is the repair that cannot be, without a feed.
  await expect(ask('operator')).rejects.toMatchObject({ code: 'feed_missing' })
  const { action, after } = act
  expect(await linesOf(account)).toMatchObject([
    {
      caller: 'olga',
      role: 'operator',
      action,
      before: { account_id: account, highest: 3, skip_through: null },
      after: { account_id: account, ...after },
      reason,
      isNow: true,
    },
  ])
})
