import { randomUUID } from 'node:crypto'
import { testDatabases, type TestDatabases } from 'local-stack/test-databases'
import { openPool, type Pool } from 'migrations/database'
import { Client } from 'pg'
import type { ApiRequest, Route } from 'service/route'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { heartbeatIds } from './events.ts'
import { feedRoutes } from './feed.ts'
import { beat } from './heartbeat.ts'

let databases: TestDatabases
let pool: Pool
let routes: Route[]

beforeAll(async () => {
  databases = await testDatabases()
  pool = openPool({
    url: databases.write('sluice_command'),
    applicationName: 'feed-test',
    maxConnections: 4,
    onError: () => {},
  })
  routes = feedRoutes(pool)
})

afterAll(async () => {
  await pool.end()
  await databases[Symbol.asyncDispose]()
})

async function get(path: string, query: Record<string, string>, params = {}) {
  const route = routes.find((each) => each.path === path)
  const answer = await route?.handle({ query, params } as unknown as ApiRequest)
  return answer?.text === undefined ? answer?.body : JSON.parse(answer.text)
}

/** Writes an event as a command does: the queue's position goes into the event's own row. */
const write = (client: Client, account: string, version: number) =>
  client.query(
    `with queued as (
       insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload,
         source, specversion, traceparent, correlationid, causationid, occurred_at)
       values ($3, 'account', $1, $2, 'Tested.v1', '{"b":1,"a": 1.10}', 's', '1.0', 't', 'c', 'c', now())
       returning position)
     insert into ledger.account_events (account_id, version, id, type, payload, outbox_position,
       traceparent, correlationid, causationid, occurred_at)
     select $1, $2, $3, 'Tested.v1', '{"b":1,"a": 1.10}', position, 't', 'c', 'c', now() from queued`,
    [account, version, randomUUID()],
  )

async function connected(): Promise<Client> {
  const client = new Client({ connectionString: databases.write('sluice_command') })
  await client.connect()
  return client
}

describe('the feed', () => {
  it('returns to events that committed late, and to none that were rolled back', async () => {
    const [slow, quick, gone] = await Promise.all([connected(), connected(), connected()])
    await slow.query('begin')
    await write(slow, 'slow', 1)
    await gone.query('begin')
    await write(gone, 'gone', 1)
    await write(quick, 'quick', 1)
    const seen: string[] = []
    let next: string | undefined
    const look = async () => {
      const page = await get('/feed/events', next === undefined ? {} : { after: next })
      next = page.next
      seen.push(...page.items.map((item: { accountId: string }) => item.accountId))
    }
    await look()
    await look()
    expect(seen).toEqual(['quick'])
    await slow.query('commit')
    await gone.query('rollback')
    await look()
    await look()
    await look()
    expect(seen).toEqual(['quick', 'slow'])
    expect(JSON.parse(Buffer.from(next ?? '', 'base64url').toString())[2]).toEqual([])
    await Promise.all([slow.end(), quick.end(), gone.end()])
  })

  it('gives one account in version order, in pages, with payloads as they were written', async () => {
    const client = await connected()
    for (let version = 1; version <= 5; version += 1) await write(client, 'paged', version)
    await client.end()
    const first = await get('/feed/accounts/:id/events', { limit: '3' }, { id: 'paged' })
    expect(first.items.map((item: { version: number }) => item.version)).toEqual([1, 2, 3])
    const rest = await get(
      '/feed/accounts/:id/events',
      { from: String(first.next) },
      { id: 'paged' },
    )
    expect(rest.items.map((item: { version: number }) => item.version)).toEqual([4, 5])
    expect(rest.next).toBeNull()
    const route = routes.find((each) => each.path === '/feed/accounts/:id/events')
    const raw = await route?.handle({ query: {}, params: { id: 'paged' } } as unknown as ApiRequest)
    expect(raw?.text).toContain('"payload":{"b":1,"a": 1.10}')
  })
})

describe('the heartbeat', () => {
  it('gives every reserved id its turn, in versions of its own, outside the feed', async () => {
    let newest = 0
    const newId = () => `00000000-0000-4000-8000-${String((newest += 1)).padStart(12, '0')}`
    for (let count = 0; count <= 24; count += 1) await beat(pool, new Date(), newId)
    const client = new Client({ connectionString: databases.write() })
    await client.connect()
    const { rows } = await client.query(
      `select aggregateid as id, array_agg(aggregateversion::int order by position) as versions
       from outbox.events where type = 'Heartbeat.v1' group by 1`,
    )
    await client.end()
    expect(rows.map((row) => row.id).toSorted()).toEqual(heartbeatIds.toSorted())
    for (const row of rows) expect(row.versions).toEqual([1, 2])
    const page = await get('/feed/events', {})
    expect(page.items.some((item: { type: string }) => item.type === 'Heartbeat.v1')).toBe(false)
  })
})
