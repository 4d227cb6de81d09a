import { randomUUID } from 'node:crypto'
import { partitionOf } from 'kafka/partition'
import { testDatabases } from 'local-stack/test-databases'
import { databaseOver, openPool } from 'migrations/database'
import type { ReadDatabase } from 'migrations/read'
import type { OutboxRow } from 'outbox-relay/wire'
import { openLog } from 'service/log'
import type { ApiRequest, Route } from 'service/route'
import { afterAll, expect, test } from 'vitest'
import { storedTombstones } from '../account-state/tombstones.ts'
import { applyChunk } from '../chunk.ts'
import { openFreshnesses } from '../freshness.ts'
import { ensureOffsets } from '../offsets.ts'
import { putStop } from '../partition-repair/stops.ts'
import { accounts } from '../projections/accounts.ts'
import { queryRoutes } from '../query-routes.ts'
import { EventStreams } from '../streams/event-stream.ts'
import { newStatus } from '../status.ts'
import { consumed, eventRow, historyOf, outboxRow, projected, timeOf } from '../test-events.ts'
import { inTransaction } from '../transaction.ts'
import { openFeed } from './feed.ts'
import { Repairer } from './repairer.ts'

// Every route that changes something, and what is then to be in read.audit. A new one fails the first
// test until it is here, and the second until it is written down.

const reason = 'ticket 12: as it was asked for'
const tombstone = 'POST /account-state/:id/tombstone'
type Act = {
  action: string
  arrange: () => Promise<unknown>
  params: Record<string, string>
  before: object
  after: object
}
const entry = (action: string, after: object): Act => ({
  action,
  arrange: () => quarantine(action),
  params: { account: action },
  before: { account_id: action, highest: 3, skip_through: null },
  after: { account_id: action, ...after },
})
const acts: Readonly<Record<string, Act>> = {
  'POST /projections/:name/quarantine/:account/retry': entry('quarantine_retry', {
    highest: 3,
    skip_through: null,
  }),
  'POST /projections/:name/quarantine/:account/skip': entry('quarantine_skip', {
    highest: 0,
    skip_through: 3,
  }),
  'POST /projections/:name/partitions/:partition/repair': {
    action: 'partition_repair',
    arrange: stopPartition5,
    params: { partition: '5' },
    before: { partition: 5, code: 'offset_beyond_log', next_offset: 0, asked_at: null },
    after: { partition: 5, code: 'offset_beyond_log', asked_at: expect.any(String) },
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
// It does not answer: an act is done, and written down, before anything is repaired.
const feed = openFeed({ url: 'http://127.0.0.1:9', key: 'sluice_key' })
const repairer = new Repairer({ ...shared, feed })
const routes = queryRoutes({
  reader,
  database: databaseOver<ReadDatabase>(reader),
  freshnessOf: openFreshnesses(reader, { signal }).of,
  cursorSecret: 'x'.repeat(32),
  reads: true,
  streams: new EventStreams({ signal }),
  signal,
  feed: undefined,
  statuses: [status],
  lookAtLog: async () => ({ bounds: new Map(), topicId: '' }),
  pool,
  repairers: [{ projection: accounts, repairer }],
})

const nameOf = ({ method, path }: Route) => `${method} ${path}`
const changing = (all: readonly Route[]) => all.filter(({ method }) => method !== 'GET').map(nameOf)

/** Puts an account into quarantine: of its three versions the second is missing. */
async function quarantine(account: string): Promise<void> {
  const history = historyOf(account, 3)
  const records = [history[0]!, history[2]!].map((row, index) => consumed(row, BigInt(index)))
  const chunk = { topic: randomUUID(), partition: 4, fetchOffset: 0n, records }
  await applyChunk({ pool, projection: accounts, topicId: randomUUID() }, chunk)
}

async function stopPartition5(): Promise<void> {
  const topicId = randomUUID()
  const place = { projection: 'accounts', topic: status.topic, partition: 5 }
  await ensureOffsets(pool, { ...place, topicId }, [5])
  const reason = { code: 'offset_beyond_log', detail: '', offset: 0n } as const
  await putStop(pool, place, { ...reason, topicId, foundTopicId: topicId })
}

async function linesOf(action: string): Promise<Record<string, unknown>[]> {
  const { rows } = await pool.query<Record<string, unknown>>(
    `select caller, role, action, before, after, reason,
            clock_timestamp() - at between interval '0' and interval '1 minute' as "isNow"
       from read.audit where action = $1 order by id`,
    [action],
  )
  return rows
}

test('every route that changes something is in the table', () => {
  expect(changing(routes).toSorted()).toEqual([tombstone, ...Object.keys(acts)].toSorted())
  const unheard: Route = { method: 'POST', path: '/unheard', handle: () => ({ status: 200 }) }
  expect(changing([...routes, unheard]).toSorted()).not.toEqual(
    [tombstone, ...Object.keys(acts)].toSorted(),
  )
})

test('a tombstone is for an operator to ask for, of a closed account, and is written down', async () => {
  const account = 'to-be-removed'
  const apply = (row: OutboxRow) =>
    inTransaction(pool, 10_000, (transaction) => accounts.apply(transaction, [projected(row)]))
  const route = routes.find((each) => nameOf(each) === tombstone)
  const ask = async (role: string) => {
    const caller = { name: 'olga', role }
    const params = { id: account }
    return route?.handle({ caller, params, query: {}, body: { reason } } as unknown as ApiRequest)
  }
  await expect(ask('operator')).rejects.toMatchObject({ code: 'account_not_found' })
  await apply(eventRow(account, 1))
  await expect(ask('teller')).rejects.toMatchObject({ code: 'not_allowed' })
  await expect(ask('operator')).rejects.toMatchObject({ code: 'account_not_closed' })
  const after = { version: 2, ledgerBalance: '0', held: '0', available: '0', status: 'closed' }
  const payload = { accountId: account, after }
  await apply(outboxRow({ account, version: 2, type: 'AccountClosed.v1', at: timeOf(2), payload }))
  expect(await linesOf('state_tombstone')).toEqual([])
  expect(await ask('operator')).toMatchObject({ status: 202, body: { throughVersion: 2 } })
  expect(await linesOf('state_tombstone')).toMatchObject([
    {
      caller: 'olga',
      action: 'state_tombstone',
      before: { status: 'closed', version: '2' },
      after: { account_id: account, through_version: 2, written_at: null },
      reason,
      isNow: true,
    },
  ])
  const stored = storedTombstones(pool)
  const partition = partitionOf(account, 12)
  const through = new Map([[account, 2]])
  expect(await stored.of(partition, [])).toEqual({ due: [account], through })
  expect(await stored.of((partition + 1) % 12, [account])).toEqual({ due: [], through })
  await stored.written([account])
  expect(await stored.of(partition, [account])).toEqual({ due: [], through })
})

test.each(Object.entries(acts))('%s is written down, and so is why', async (name, act) => {
  const { action, arrange, params, before, after } = act
  await arrange()
  const route = routes.find((each) => nameOf(each) === name)
  const ask = async (role: string) =>
    route?.handle({
      caller: { name: 'olga', role },
      params: { name: 'accounts', ...params },
      query: {},
      body: { reason },
    } as unknown as ApiRequest)
  await expect(ask('teller')).rejects.toMatchObject({ code: 'not_allowed' })
  expect(await linesOf(action)).toEqual([])
  await ask('operator')
  expect(await linesOf(action)).toMatchObject([
    { caller: 'olga', role: 'operator', action, before, after, reason, isNow: true },
  ])
})
