import { encodeToken } from 'command-api/token'
import { connect } from 'node:net'
import { testDatabases } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { databaseOver, openPool } from 'migrations/database'
import type { ReadDatabase } from 'migrations/read'
import type { OutboxRow } from 'outbox-relay/wire'
import { openToAll } from 'service/access'
import { serveHttp } from 'service/http'
import { openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { afterAll, expect, test } from 'vitest'
import { accountEventsRoutes } from '../account-events.ts'
import { openFreshnesses } from '../freshness.ts'
import { accounts } from '../projections/accounts.ts'
import { dashboard } from '../projections/dashboard.ts'
import { tiers } from '../projections/tiers.ts'
import { totals } from '../projections/totals.ts'
import { type Feed, openFeed } from '../quarantine/feed.ts'
import { openTestFeed } from '../quarantine/test-feed.ts'
import { eventRow, historyOf, outboxRow, projected, timeOf } from '../test-events.ts'
import { inTransaction } from '../transaction.ts'
import { changesRoutes } from './account-changes.ts'
import { dashboardStreamRoutes } from './dashboard-stream.ts'
import { EventStreams } from './event-stream.ts'
import { openReader } from './test-reader.ts'

const cleanup = new AsyncDisposableStack()
afterAll(() => cleanup.disposeAsync())
const databases = cleanup.use(await testDatabases())
const connection = { applicationName: 'test', maxConnections: 6, onError: () => {} }
const pool = cleanup.use(
  openPool({ ...connection, url: databases.read('sluice_projector'), pipeline: true }),
)
const reader = cleanup.use(openPool({ ...connection, url: databases.read('sluice_query') }))
const database = databaseOver<ReadDatabase>(reader)
const commandSide = cleanup.use(await openTestFeed(databases))
const feed = openFeed({ url: commandSide.url, key: commandSide.key, pageLimit: 100 })

/** A query-api that only streams; another one is another replica. */
async function openReplica(options: { feed?: Feed | undefined; limit?: number } = { feed }) {
  const stop = new AbortController()
  const { signal } = stop
  const streams = new EventStreams({ signal, limit: options.limit ?? 256 })
  const settings = {
    reader,
    database,
    freshnessOf: openFreshnesses(reader, { signal }).of,
    cursorSecret: 'a secret of at least 32 characters',
    streams,
    signal,
    feed: options.feed,
  }
  const http = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    access: openToAll,
    metrics: openMetrics('query-api'),
    log: openLog('query-api', 'fatal'),
    routes: [
      ...accountEventsRoutes(settings),
      ...changesRoutes(settings),
      ...dashboardStreamRoutes(settings),
    ],
    readiness: async () => [],
    stallMs: 300,
  })
  const close = async () => {
    stop.abort()
    await http[Symbol.asyncDispose]()
  }
  return { url: http.url, port: http.port, streams, stop, [Symbol.asyncDispose]: close }
}

const apply = (rows: readonly OutboxRow[]) =>
  inTransaction(pool, 10_000, async (transaction) => {
    for (const projection of [accounts, tiers, totals, dashboard]) {
      await projection.apply(transaction, rows.map(projected))
    }
  })

/** As when a command was answered and its events came through. */
async function happen(rows: readonly OutboxRow[]): Promise<void> {
  await commandSide.record(rows)
  await apply(rows)
}

const idsOf = (events: readonly { id: string }[]) => events.map(({ id }) => Number(id))
const range = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index)

test('a stream begins with the account as it is, and goes on with each change', async () => {
  await using replica = await openReplica()
  const history = historyOf('live', 6)
  await happen(history.slice(0, 2))
  await using stream = await openReader(`${replica.url}/accounts/live/changes`)
  expect(stream.response.headers.get('content-type')).toBe('text/event-stream')
  await stream.count(1)
  for (const row of history.slice(2)) await happen([row])
  const [first, ...changes] = await stream.count(5)
  expect(first).toMatchObject({
    id: '2',
    event: 'account',
    data: { id: 'live', ledgerBalance: '10', version: 2 },
  })
  expect(idsOf(changes)).toEqual([3, 4, 5, 6])
  expect(changes[0]).toMatchObject({
    event: 'change',
    data: {
      accountId: 'live',
      version: 3,
      type: 'FundsDeposited.v1',
      at: timeOf(3),
      payload: { amount: '10', after: { ledgerBalance: '20', version: 3 } },
    },
  })
})

test('Last-Event-ID resumes without a hole or a repetition, at another replica', async () => {
  await using one = await openReplica()
  await using other = await openReplica()
  const history = historyOf('resumed', 700)
  await happen(history.slice(0, 300))
  let last = 0
  const seen: number[] = []
  for (const [replica, upTo] of [
    [one, 250],
    [other, 470],
    [one, 640],
    [other, 700],
  ] as const) {
    await using stream = await openReader(`${replica.url}/accounts/resumed/changes`, {
      'Last-Event-ID': String(last),
    })
    // Some of it happens while nobody listens, some while somebody does.
    if (upTo === 470) await happen(history.slice(300, 600))
    if (upTo === 640) await happen(history.slice(600))
    const read = (await stream.count(upTo - last)).slice(0, upTo - last)
    seen.push(...idsOf(read))
    last = seen.at(-1)!
  }
  expect(seen).toEqual(range(1, 700))
})

test('a change is not sent before it can be read here, nor lost for it', async () => {
  await using replica = await openReplica()
  const history = historyOf('behind', 5)
  await happen(history.slice(0, 2))
  await commandSide.record(history.slice(2))
  await using stream = await openReader(`${replica.url}/accounts/behind/changes`, {
    'Last-Event-ID': '0',
  })
  await stream.count(2)
  await apply(history.slice(2, 4))
  expect(idsOf(await stream.count(4))).toEqual([1, 2, 3, 4])
})

test('while the command side is away nothing is sent, and nothing is left out', async () => {
  let away = true
  const flaky: Feed = {
    ...feed,
    accountEvents: (...asked) =>
      away
        ? openFeed({ url: 'http://127.0.0.1:1', key: 'x' }).accountEvents(...asked)
        : feed.accountEvents(...asked),
  }
  await using replica = await openReplica({ feed: flaky })
  await happen(historyOf('away', 3))
  await using stream = await openReader(`${replica.url}/accounts/away/changes`, {
    'Last-Event-ID': '1',
  })
  await waitUntil(() => stream.comments.length > 0, { what: 'a comment' })
  expect(stream.events).toEqual([])
  away = false
  expect(idsOf(await stream.count(2))).toEqual([2, 3])
})

test('a client that does not read is cut, and one beside it gets everything', async () => {
  await using replica = await openReplica()
  // Payloads of some kilobytes, so that not the system's buffers alone hold all of them.
  const large = 'x'.repeat(8_000)
  const rows = historyOf('unread', 1_500).map((row, index) => {
    const { version, balance } = { version: index + 1, balance: String(10 * index) }
    if (index === 0) return row
    const after = { version, ledgerBalance: balance, held: '0', available: balance, status: 'open' }
    const payload = { accountId: 'unread', owner: large, metadata: {}, after }
    const type = 'AccountDetailsUpdated.v1'
    return outboxRow({ account: 'unread', version, type, at: timeOf(version), payload })
  })
  await happen(rows)
  const socket = connect(replica.port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write('GET /accounts/unread/changes HTTP/1.1\r\nHost: test\r\nLast-Event-ID: 0\r\n\r\n')
  socket.pause()
  await using stream = await openReader(`${replica.url}/accounts/unread/changes`, {
    'Last-Event-ID': '0',
  })
  expect(idsOf(await stream.count(1_500))).toEqual(range(1, 1_500))
  await waitUntil(() => replica.streams.open === 1, {
    what: 'the reader that does not read to be cut',
  })
  socket.destroy()
})

test('beyond the limit a stream is refused, and a reader that leaves makes room', async () => {
  await using replica = await openReplica({ feed, limit: 2 })
  await happen(historyOf('limited', 1))
  const url = `${replica.url}/accounts/limited/changes`
  await using kept = await openReader(url)
  {
    await using left = await openReader(url)
    expect([kept.response.status, left.response.status]).toEqual([200, 200])
    const refused = await fetch(url)
    expect(refused.status).toBe(503)
    expect(refused.headers.get('retry-after')).toBe('5')
    expect(await refused.json()).toMatchObject({ code: 'too_many_streams' })
  }
  await waitUntil(() => replica.streams.open === 1, { what: 'the other stream to be closed' })
  await using again = await openReader(url)
  expect(again.response.status).toBe(200)
})

test('when the process stops, streams end at once and whole', async () => {
  const replica = await openReplica()
  await happen(historyOf('stopping', 1))
  await using stream = await openReader(`${replica.url}/accounts/stopping/changes`)
  await using figures = await openReader(`${replica.url}/dashboard/stream`)
  await Promise.all([stream.count(1), figures.count(1)])
  const begun = performance.now()
  await replica[Symbol.asyncDispose]()
  expect(await Promise.all([stream.reading, figures.reading])).toEqual(['ended', 'ended'])
  expect(performance.now() - begun).toBeLessThan(3_000)
})

test('what cannot be streamed is refused before anything is sent', async () => {
  await using replica = await openReplica()
  await using alone = await openReplica({ feed: undefined })
  await happen(historyOf('known', 1))
  const ask = async (url: string, headers = {}) => {
    const response = await fetch(url, { headers })
    return { status: response.status, body: (await response.json()) as { code: string } }
  }
  const known = `${replica.url}/accounts/known/changes`
  expect(await ask(`${replica.url}/accounts/nobody/changes`)).toMatchObject({
    status: 404,
    body: { code: 'account_not_found' },
  })
  expect(await ask(known, { 'Last-Event-ID': 'abc' })).toMatchObject({
    status: 400,
    body: { code: 'invalid_header' },
  })
  expect(await ask(`${known}?from=1`)).toMatchObject({ status: 400 })
  const strict = {
    'Consistency-Token': encodeToken(new Map([['known', 2]])),
    'Consistency-Mode': 'strict',
    Prefer: 'wait=0',
  }
  expect(await ask(known, strict)).toMatchObject({ body: { code: 'projection_late' } })
  for (const path of ['changes', 'events']) {
    expect(await ask(`${alone.url}/accounts/known/${path}`)).toMatchObject({
      status: 503,
      body: { code: 'feed_missing' },
    })
  }
})

test('the dashboard is streamed whole, once at first and then when it changes', async () => {
  await using replica = await openReplica()
  await using stream = await openReader(`${replica.url}/dashboard/stream`)
  const [first] = await stream.count(1)
  const open = (first!.data.accounts as { open: number }).open
  await happen(historyOf('shown', 3))
  const newest = String(Number(first!.id) + 3)
  const last = () => stream.events.at(-1)!
  await waitUntil(() => last().id === newest, { what: 'the dashboard with all three events' })
  expect(last()).toMatchObject({ event: 'dashboard', data: { accounts: { open: open + 1 } } })
  await using again = await openReader(`${replica.url}/dashboard/stream`, {
    'Last-Event-ID': newest,
  })
  expect((await again.count(1))[0]).toMatchObject({ id: newest })
})

test('the audit shows events as they are stored, by pages, and waits for no token', async () => {
  await using replica = await openReplica()
  await commandSide.record(historyOf('audited', 5))
  const url = `${replica.url}/accounts/audited/events`
  type Page = { items: Record<string, unknown>[]; next: string | null; version: number }
  const ask = async (query: string) => {
    const token = encodeToken(new Map([['audited', 5]]))
    const response = await fetch(`${url}?${query}`, { headers: { 'Consistency-Token': token } })
    expect(response.headers.get('consistency')).toBe('fresh')
    return (await response.json()) as Page
  }
  const pages: Page[] = []
  for (let query = 'limit=2'; pages.length < 5;) {
    const page = await ask(query)
    pages.push(page)
    if (page.next === null) break
    query = `limit=2&cursor=${page.next}`
  }
  const items = pages.flatMap((page) => page.items)
  expect(items.map(({ version }) => version)).toEqual([1, 2, 3, 4, 5])
  expect(pages.map(({ version }) => version)).toEqual([2, 4, 5])
  const [row] = historyOf('audited', 1)
  expect(items[0]).toMatchObject({
    accountId: 'audited',
    type: 'AccountOpened.v1',
    at: timeOf(1),
    correlationId: 'c',
    causationId: 'c',
    payload: JSON.parse(row![12]),
  })
  expect((await fetch(`${replica.url}/accounts/nobody/events`)).status).toBe(404)
  const elsewhere = `${replica.url}/accounts/nobody/events?cursor=${pages[0]!.next}`
  expect((await fetch(elsewhere)).status).toBe(400)
})

test('a balance as large as they come arrives with every digit', async () => {
  await using replica = await openReplica()
  const balance = '-999999999999999999'
  await happen([eventRow('digits', 1), eventRow('digits', 2, { balance })])
  await using stream = await openReader(`${replica.url}/accounts/digits/changes`, {
    'Last-Event-ID': '1',
  })
  const [change] = await stream.count(1)
  expect(change!.data.payload).toMatchObject({ after: { ledgerBalance: balance } })
})
