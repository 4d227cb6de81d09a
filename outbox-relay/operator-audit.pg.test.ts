import type { ApiRequest, Route } from 'service/route'
import { expect, test } from 'vitest'
import { newRelayState } from './relay-state.ts'
import { newMaintenanceState } from './retention/maintenance.ts'
import { watchPartitions } from './retention/partition-status.ts'
import { relayRoutes } from './routes.ts'
import { askForMode } from './switch-table.ts'
import { park, testOutbox, type TestOutbox } from './test-outbox.ts'

// Every route that changes something, by what an operator asks of it and what is then to be in
// outbox.audit. A new one fails the first test until it is here, and the second until it is written down.

type Act = {
  prepare?: (outbox: TestOutbox) => Promise<unknown>
  params?: Record<string, string>
  body: { reason: string; mode?: string }
  line: { action: string; before: unknown; after: unknown }
}

const reason = 'ticket 12: as it was asked for'
const parked = { aggregatetype: 'account', aggregateid: 'a' }
const entry = (changes: object) =>
  expect.toSatisfy((text: string) => {
    expect(JSON.parse(text)).toMatchObject({ ...parked, ...changes })
    return true
  })

const acts: Readonly<Record<string, Act>> = {
  'PUT /relay/mode': {
    body: { mode: 'wal', reason },
    line: { action: 'switch_asked', before: 'polling', after: 'wal' },
  },
  'DELETE /relay/switch': {
    prepare: ({ pool }) => askForMode(pool, { mode: 'wal', actor: 'otto', reason: null }),
    body: { reason },
    line: { action: 'switch_cancelled', before: 'wal', after: 'polling' },
  },
  'POST /relay/parked/retry': {
    prepare: park,
    body: { reason },
    line: {
      action: 'parked_retry_all',
      before: '{"aggregates":1,"events":2}',
      after: '{"releasing" : 1}',
    },
  },
  'POST /relay/parked/:aggregatetype/:aggregateid/retry': {
    prepare: park,
    params: parked,
    body: { reason },
    line: {
      action: 'parked_retry',
      before: entry({ releasing: false, events: 2 }),
      after: entry({ releasing: true, events: 2 }),
    },
  },
  'POST /relay/parked/:aggregatetype/:aggregateid/skip': {
    prepare: park,
    params: parked,
    body: { reason },
    line: {
      action: 'parked_skip',
      before: entry({ releasing: false, events: 2 }),
      after: entry({ releasing: true, events: 1 }),
    },
  },
}

function routesOf({ pool, cdcUrl }: TestOutbox): Route[] {
  const retention = { positions: 1n, ahead: 1, retentionSeconds: 1, maxBytes: 1 }
  const partitions = watchPartitions(pool, retention, newMaintenanceState())
  const config = { CDC_DATABASE_URL: cdcUrl, CONNECT_URL: undefined }
  return relayRoutes({ pool, config, state: newRelayState(), partitions })
}

const nameOf = ({ method, path }: Route) => `${method} ${path}`
const changing = (routes: readonly Route[]) =>
  routes.filter(({ method }) => method !== 'GET').map(nameOf)

type Line = { id: string; actor: string; action: string }

/** What was written down after the line `id`. */
async function linesAfter({ pool }: TestOutbox, id: string): Promise<Line[]> {
  const { rows } = await pool.query<Line>(
    `select id, actor, action, before, after, reason,
            clock_timestamp() - at between interval '0' and interval '1 minute' as "isNow"
       from outbox.audit where id > $1 order by id`,
    [id],
  )
  return rows
}

test('every route that changes something is in the table', async () => {
  await using outbox = await testOutbox()
  const routes = routesOf(outbox)
  expect(changing(routes).toSorted()).toEqual(Object.keys(acts).toSorted())
  const unheard: Route = { method: 'POST', path: '/relay/unheard', handle: () => ({ status: 202 }) }
  expect(changing([...routes, unheard])).not.toEqual(Object.keys(acts))
})

test.each(Object.entries(acts))('%s is written down, and so is why', async (name, act) => {
  await using outbox = await testOutbox()
  await act.prepare?.(outbox)
  const since = (await linesAfter(outbox, '0')).at(-1)?.id ?? '0'
  const route = routesOf(outbox).find((each) => nameOf(each) === name)
  const ask = async (role: string) =>
    route?.handle({
      caller: { name: 'olga', role },
      params: act.params ?? {},
      query: {},
      body: act.body,
      signal: AbortSignal.timeout(10_000),
    } as unknown as ApiRequest)
  await expect(ask('teller')).rejects.toMatchObject({ code: 'not_allowed' })
  expect(await linesAfter(outbox, since)).toEqual([])
  const answer = await ask('operator')
  expect([200, 202]).toContain(answer?.status)
  expect(await linesAfter(outbox, since)).toMatchObject([
    { actor: 'olga', ...act.line, reason, isNow: true },
  ])
})
