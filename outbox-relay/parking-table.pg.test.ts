import { openToAll } from 'service/access'
import { serveHttp } from 'service/http'
import { openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Aggregate, nothingHeld } from './parking.ts'
import { parkingRoutes } from './parking-routes.ts'
import {
  loadParked,
  parkAgain,
  readCopies,
  readParkedCounts,
  readReleasing,
  removeCopies,
  saveWithHeld,
  unpark,
} from './parking-table.ts'
import { takeLease, readRelayRow, loadProgress } from './relay-table.ts'
import { rowAt, type Session, testOutbox, type TestOutbox } from './test-outbox.ts'
import type { OutboxRow } from './wire.ts'

const noGaps = { closed: [], opened: [] }
const limits = { rows: 100, payloadBytes: 1_000_000 }
let outbox: TestOutbox
let superuser: Session
let leading: { epoch: string; leader: string }
let url: string
let role: 'operator' | 'teller' | 'customer' = 'operator'
const cleanup = new AsyncDisposableStack()
beforeAll(async () => {
  outbox = cleanup.use(await testOutbox())
  superuser = cleanup.use(await outbox.superuser())
  leading = await tenureOf('relay-1')
  const http = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    access: { ...openToAll, identify: () => ({ name: 'olga', role }) },
    metrics: openMetrics('outbox-relay'),
    log: openLog('outbox-relay', 'silent'),
    readiness: async () => [],
    routes: parkingRoutes(outbox.pool),
  })
  url = cleanup.use(http).url
})
afterAll(() => cleanup.disposeAsync())

async function tenureOf(leader: string) {
  const epoch = await takeLease(outbox.pool, leader, await readRelayRow(outbox.pool))
  return { epoch: epoch ?? '', leader }
}

let position = 0
const rowOf = (aggregateId: string, version: number, payload?: string): OutboxRow => {
  position += 1
  return rowAt(position, { aggregateId, version, payload })
}

const reason = 'MESSAGE_TOO_LARGE'

/** Saves rows as held, each of the first of an aggregate as the one that was refused. */
async function hold(rows: readonly OutboxRow[], { parks = true, tenure = leading } = {}) {
  const from = (await loadProgress(outbox.pool)).next
  const firsts = [...Map.groupBy(rows, (row) => row[3]).values()].map(([first]) => first!)
  const refused = parks ? firsts.map((row) => ({ row, reason, recordBytes: 2_000_000 })) : []
  const next = BigInt(rows.at(-1)?.[0] ?? 0) + 1n
  const changes = { from, next, gaps: noGaps, held: { rows, refused } }
  return saveWithHeld(outbox.pool, tenure, changes)
}

const account = (aggregateId: string): Aggregate => ({ aggregateType: 'account', aggregateId })

async function park(aggregateId: string, versions: number): Promise<OutboxRow[]> {
  const rows = Array.from({ length: versions }, (_, n) => rowOf(aggregateId, n + 1))
  expect(await hold(rows)).toBe(true)
  return rows
}

async function ask(kind: 'retry' | 'skip', aggregateId: string, body: unknown) {
  const path = `/relay/parked/account/${encodeURIComponent(aggregateId)}/${kind}`
  const response = await fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

async function list(query = '') {
  const response = await fetch(`${url}/relay/parked${query}`)
  const body = (await response.json()) as { items: Record<string, unknown>[]; next: string | null }
  return { status: response.status, ...body }
}

const countsOf = async (aggregateId: string) =>
  (await list('?limit=500')).items.find((item) => item.aggregateId === aggregateId)?.events

async function audited(aggregateId: string) {
  const { rows } = await superuser.client.query<Record<string, string | null>>(
    `select actor, action, before, after, reason from outbox.audit
      where coalesce(after, before)::json ->> 'aggregateid' = $1 order by id`,
    [aggregateId],
  )
  return rows
}

test('what is held and the progress that covers it are saved together, or neither is', async () => {
  const before = await loadProgress(outbox.pool)
  const old = { epoch: '0', leader: 'relay-0' }
  expect(await hold([rowOf('fenced', 1)], { tenure: old })).toBe(false)
  expect(await loadProgress(outbox.pool)).toEqual(before)
  expect(await countsOf('fenced')).toBeUndefined()
  const rows = await park('together', 3)
  expect((await loadProgress(outbox.pool)).next).toBe(BigInt(rows[2]![0]) + 1n)
  expect(await loadParked(outbox.pool)).toContainEqual(account('together'))
  expect(await countsOf('together')).toBe(3)
  const [told] = await audited('together')
  expect(told).toMatchObject({ actor: 'relay-1', action: 'aggregate_parked', before: null })
  expect(told?.after).not.toContain('amount')
})

test('rows that come again are not counted again', async () => {
  const rows = await park('again', 2)
  expect(await hold([...rows, rowOf('again', 3)], { parks: false })).toBe(true)
  expect(await countsOf('again')).toBe(3)
})

test('a copy is the row that was read, to the byte', async () => {
  const payloads = [
    '{"b":1,"a": 1.10,  "n":12345678901234567890}',
    '{"astral":"𝄞😀","quote":"\\"","backslash":"\\\\","nul":"\\u0000","lone":"\\ud83d"}',
    ' { "twice":1,\n\t"twice":2 } ',
    `{"large":"${'0123456789äöü'.repeat(100_000)}"}`,
    'null',
  ]
  const rows = payloads.map((payload, n) => rowOf('bytes {",}\\', n + 1, payload))
  expect(await hold(rows)).toBe(true)
  const aggregate = account('bytes {",}\\')
  const read = await readCopies(outbox.pool, aggregate, { rows: 100, payloadBytes: 100_000_000 })
  expect(read).toEqual({ rows, complete: true })
})

test('copies are read in order, as many as the limits say', async () => {
  const rows = await park('limits', 7)
  const some = await readCopies(outbox.pool, account('limits'), { ...limits, rows: 3 })
  expect(some).toEqual({ rows: rows.slice(0, 3), complete: false })
  const small = await readCopies(outbox.pool, account('limits'), { rows: 100, payloadBytes: 1 })
  expect(small).toEqual({ rows: rows.slice(0, 1), complete: false })
})

test('an aggregate is parked as long as one copy of it is there, whatever is tried', async () => {
  const rows = await park('proof', 2)
  await ask('retry', 'proof', { reason: 'the limit was raised' })
  expect(await readReleasing(outbox.pool, 100)).toContainEqual(account('proof'))
  expect(await removeCopies(outbox.pool, leading, { ...account('proof'), upTo: rows[0]![0] })).toBe(
    true,
  )
  expect(await countsOf('proof')).toBe(1)
  expect(await unpark(outbox.pool, leading, account('proof'))).toBe(false)
  const forget = `delete from outbox.parked_aggregates where aggregateid = 'proof'`
  await expect(superuser.sql(forget)).rejects.toMatchObject({ code: '23503' })
  await removeCopies(outbox.pool, leading, { ...account('proof'), upTo: rows[1]![0] })
  expect(await unpark(outbox.pool, leading, account('proof'))).toBe(true)
  expect(await countsOf('proof')).toBeUndefined()
  expect((await audited('proof')).map(({ action }) => action)).toEqual([
    'aggregate_parked',
    'parked_retry',
    'aggregate_released',
  ])
})

test('an aggregate whose release nobody asked for stays parked without a copy', async () => {
  const [row] = await park('unasked', 1)
  await removeCopies(outbox.pool, leading, { ...account('unasked'), upTo: row![0] })
  expect(await unpark(outbox.pool, leading, account('unasked'))).toBe(false)
})

test('a leader of an earlier epoch removes, parks and releases nothing', async () => {
  const rows = await park('old leader', 1)
  await ask('retry', 'old leader', { reason: 'the limit was raised' })
  const old = leading
  leading = await tenureOf('relay-2')
  const one = account('old leader')
  expect(await removeCopies(outbox.pool, old, { ...one, upTo: rows[0]![0] })).toBe(false)
  expect(await unpark(outbox.pool, old, one)).toBeUndefined()
  expect(await parkAgain(outbox.pool, old, { row: rows[0]!, reason, recordBytes: 1 })).toBe(false)
  expect(await countsOf('old leader')).toBe(1)
})

test('a skip removes the refused event alone, and says so with who and why', async () => {
  const rows = await park('skipped', 3)
  const answer = await ask('skip', 'skipped', { reason: ' no consumer can read it ' })
  expect(answer).toMatchObject({ status: 202, body: { events: 2, releasing: true } })
  const { rows: left } = await readCopies(outbox.pool, account('skipped'), limits)
  expect(left).toEqual(rows.slice(1))
  const told = (await audited('skipped')).at(-1)
  expect(told).toMatchObject({
    actor: 'olga',
    action: 'parked_skip',
    reason: 'no consumer can read it',
  })
  expect(JSON.parse(told?.before ?? '')).toMatchObject({ event_id: rows[0]![1], events: 3 })
  expect(JSON.parse(told?.after ?? '')).toMatchObject({ events: 2, releasing: true })
  expect((await ask('skip', 'skipped', { reason: 'once more' })).body.code).toBe(
    'release_under_way',
  )
  expect(await countsOf('skipped')).toBe(2)
})

test('a release that meets a refusal waits again, for that event', async () => {
  const rows = await park('again refused', 2)
  await ask('skip', 'again refused', { reason: 'it is too large' })
  await parkAgain(outbox.pool, leading, { row: rows[1]!, reason, recordBytes: 3 })
  const entry = (await list('?limit=500')).items.find(
    (item) => item.aggregateId === 'again refused',
  )
  expect(entry).toMatchObject({
    refused: { position: rows[1]![0], version: '2', id: rows[1]![1], recordBytes: 3, times: 2 },
    events: 1,
    releasing: false,
  })
  const told = (await audited('again refused')).at(-1)
  expect(told?.action).toBe('aggregate_parked_again')
  expect(JSON.parse(told?.before ?? '')).toMatchObject({ releasing: true, refusals: 1 })
  expect(JSON.parse(told?.after ?? '')).toMatchObject({ releasing: false, refusals: 2 })
  expect((await ask('retry', 'again refused', { reason: 'the limit was raised' })).status).toBe(202)
})

test('only operators act, with a reason; customers do not even look', async () => {
  await park('guarded', 1)
  for (const body of [
    {},
    { reason: '  ' },
    { reason: 'x'.repeat(501) },
    { reason: 'ok!', more: 1 },
  ]) {
    expect((await ask('skip', 'guarded', body)).body.code).toBe('invalid_request')
  }
  expect((await ask('retry', 'nobody', { reason: 'why not' })).body.code).toBe('not_parked')
  role = 'teller'
  for (const kind of ['retry', 'skip'] as const) {
    expect((await ask(kind, 'guarded', { reason: 'why not' })).body.code).toBe('not_allowed')
  }
  expect((await list()).status).toBe(200)
  role = 'customer'
  expect((await list()).status).toBe(403)
  role = 'operator'
  expect((await audited('guarded')).map(({ action }) => action)).toEqual(['aggregate_parked'])
})

test('the list goes through all of them in pages, without payloads', async () => {
  await park('a/b?c', 1)
  const whole = await list('?limit=500')
  const keys = whole.items.map(
    (item) => `${item.aggregateType as string}/${item.aggregateId as string}`,
  )
  expect(keys).toEqual(keys.toSorted())
  expect(whole.next).toBeNull()
  const paged: unknown[] = []
  for (let query = '?limit=2'; query !== '';) {
    const { items, next } = await list(query)
    expect(items.length).toBeLessThanOrEqual(2)
    paged.push(...items)
    query = next === null ? '' : `?limit=2&after=${next}`
  }
  expect(paged).toEqual(whole.items)
  expect(JSON.stringify(whole)).not.toMatch(/amount|payload/)
  expect((await list('?after=x')).status).toBe(400)
  expect((await list('?limit=501')).status).toBe(400)
  expect((await ask('retry', 'a/b?c', { reason: 'the limit was raised' })).status).toBe(202)
})

test('every read takes an index, however much is parked', async () => {
  await using own = await testOutbox()
  await using session = await own.superuser()
  await session.sql(`insert into outbox.parked_aggregates (aggregatetype, aggregateid, position,
      version, event_id, event_type, refusal, record_bytes, events, releasing)
    select 'account', 'a-' || n, n, 1, gen_random_uuid(), 'T.v1', 'R', 1, 1, n % 5000 = 0
      from generate_series(1, 20000) as n`)
  await session.sql(`insert into outbox.parked
    select 'account', 'a-' || (n % 2000 + 1), n, gen_random_uuid(), n, 'T.v1', '{}', 's', '1.0', 't',
           'c', 'c', now()
      from generate_series(1, 40000) as n`)
  await session.sql('analyze outbox.parked; analyze outbox.parked_aggregates')
  const plan = async (text: string) => {
    const { rows } = await session.client.query<{ 'QUERY PLAN': string }>(`explain ${text}`)
    return rows.map((row) => row['QUERY PLAN']).join('\n')
  }
  const key = `aggregatetype = 'account' and aggregateid = 'a-7'`
  for (const text of [
    `select * from outbox.parked where ${key} order by position limit 500`,
    `delete from outbox.parked where ${key} and position <= 100`,
    `select * from outbox.parked_aggregates where (aggregatetype, aggregateid) > ('account', 'a-5')
      order by aggregatetype, aggregateid limit 100`,
    `select * from outbox.parked_aggregates where releasing
      order by aggregatetype, aggregateid limit 100`,
  ]) {
    expect(await plan(text)).not.toMatch(/Seq Scan|Sort/)
  }
  expect(await readParkedCounts(own.pool)).toEqual({ aggregates: 10_000, events: 10_000 })
})

test('progress without anything held is saved as before', async () => {
  const { next } = await loadProgress(outbox.pool)
  const changes = { from: next, next: next + 5n, gaps: noGaps, held: nothingHeld }
  expect(await saveWithHeld(outbox.pool, leading, changes)).toBe(true)
  position += 5
  expect((await loadProgress(outbox.pool)).next).toBe(next + 5n)
})
