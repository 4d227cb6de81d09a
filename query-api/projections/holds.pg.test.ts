import { randomUUID } from 'node:crypto'
import type { OutboxRow } from 'outbox-relay/wire'
import { afterAll, expect, test } from 'vitest'
import { eventRow, outboxRow, projected, timeOf } from '../test-events.ts'
import { storyOf } from '../test-story.ts'
import { holdRoutes } from './holds-reads.ts'
import { holds } from './holds.ts'
import { openReadModel } from './test-read-model.ts'

const model = await openReadModel({ projection: holds, routes: holdRoutes })
afterAll(() => model[Symbol.asyncDispose]())
const { apply, rebuild } = model

const list = (id: string, query: Record<string, string> = {}) =>
  model.body('/accounts/:id/holds', { params: { id }, query })
const isoOf = (version: number) => timeOf(version).replace('000Z', 'Z')

type HoldEvent = { hold: string; version: number; type?: string; more?: object }

function holdRow(account: string, { hold, version, type, more = {} }: HoldEvent): OutboxRow {
  const payload = {
    accountId: account,
    holdId: hold,
    amount: '300',
    currency: 'EUR',
    ...more,
    after: { version, ledgerBalance: '900', held: '300', available: '600', status: 'open' },
  }
  const named = type ?? 'HoldPlaced.v1'
  if (type !== undefined) {
    return outboxRow({ account, version, type: named, at: timeOf(version), payload })
  }
  const placed = { ...payload, reference: 'hotel', expiresAt: timeOf(9_000) }
  return outboxRow({ account, version, type: named, at: timeOf(version), payload: placed })
}

function capture(account: string, hold: string, version: number, transactionId: string) {
  const moved = { transactionId, amount: '120', released: '180', reference: null }
  const more = { ...moved, effectiveAt: timeOf(version) }
  return holdRow(account, { hold, version, type: 'HoldCaptured.v1', more })
}

test('a hold is listed as it was placed, and then as it ended', async () => {
  const [captured, released, expired, active] = [1, 2, 3, 4].map(() => randomUUID())
  const transactionId = randomUUID()
  const placed = [captured, released, expired, active].map((hold, index) =>
    holdRow('all', { hold: hold!, version: index + 2 }),
  )
  await apply([eventRow('all', 1), ...placed])
  const first = await list('all')
  expect(first).toMatchObject({ next: null, version: 5, asOf: isoOf(5) })
  expect((first['items'] as object[])[0]).toEqual({
    id: captured,
    amount: '300',
    currency: 'EUR',
    reference: 'hotel',
    status: 'active',
    expiresAt: isoOf(9_000),
    placedAt: isoOf(2),
    endedAt: null,
    capturedAmount: null,
    transactionId: null,
    version: 2,
  })
  await apply([
    capture('all', captured!, 6, transactionId),
    holdRow('all', { hold: released!, version: 7, type: 'HoldReleased.v1' }),
    holdRow('all', { hold: expired!, version: 8, type: 'HoldExpired.v1' }),
  ])
  const after = await list('all')
  expect(after).toMatchObject({ version: 8, asOf: isoOf(8) })
  expect(after['items']).toMatchObject([
    { id: captured, status: 'captured', capturedAmount: '120', transactionId, endedAt: isoOf(6) },
    { id: released, status: 'released', capturedAmount: null, endedAt: isoOf(7), version: 7 },
    { id: expired, status: 'expired', endedAt: isoOf(8) },
    { id: active, status: 'active', endedAt: null },
  ])
  expect((await list('all', { status: 'active' }))['items']).toMatchObject([{ id: active }])
})

test('a list goes on where it was, though holds are placed meanwhile', async () => {
  const rows = Array.from({ length: 5 }, (_, index) =>
    holdRow('pages', { hold: randomUUID(), version: index + 2 }),
  )
  await apply([eventRow('pages', 1), ...rows.slice(0, 3)])
  const first = await list('pages', { limit: '2' })
  await apply(rows.slice(3))
  const second = await list('pages', { limit: '2', cursor: String(first['next']) })
  const third = await list('pages', { limit: '2', cursor: String(second['next']) })
  const items = [first, second, third].flatMap((page) => page['items'] as { version: number }[])
  expect(items.map(({ version }) => version)).toEqual([2, 3, 4, 5, 6])
  expect(third['next']).toBeNull()
  const elsewhere = list('pages', { status: 'active', cursor: String(first['next']) })
  await expect(elsewhere).rejects.toMatchObject({ code: 'invalid_cursor' })
})

test('an account without holds has an empty list, and an unknown one is not found', async () => {
  await apply([eventRow('none', 1)])
  expect(await list('none')).toEqual({ items: [], next: null, version: 1, asOf: isoOf(1) })
  await expect(list('nobody')).rejects.toMatchObject({ code: 'account_not_found' })
})

test('an account that is rebuilt has the holds of its history alone', async () => {
  const [kept, gone] = [randomUUID(), randomUUID()]
  const rows = [
    eventRow('anew', 1),
    holdRow('anew', { hold: kept, version: 2 }),
    holdRow('anew', { hold: gone, version: 3 }),
  ]
  await apply(rows)
  await rebuild('anew', rows.slice(0, 2).map(projected))
  const after = await list('anew')
  expect(after).toMatchObject({ version: 2 })
  expect(after['items']).toMatchObject([{ id: kept, status: 'active' }])
})

test('of a story with every type of event, the holds are those of a fold in memory', async () => {
  const story = storyOf(26)
  await apply(story)
  const ends = new Map([
    ['HoldCaptured.v1', 'captured'],
    ['HoldReleased.v1', 'released'],
    ['HoldExpired.v1', 'expired'],
  ])
  const fold = new Map<string, Record<string, unknown>>()
  for (const { account, version, event } of story.map(projected)) {
    const { type, at, payload } = event
    if (type === 'HoldPlaced.v1') {
      const { holdId: id, amount, currency, reference, expiresAt } = payload
      const placed = { placed_version: String(version), placed_at: new Date(at), status: 'active' }
      const ended = { ended_version: null, ended_at: null }
      const captured = { captured_amount: null, transaction_id: null }
      const hold = { id, account_id: account, amount, currency, reference, ...placed, ...ended }
      fold.set(id, { ...hold, ...captured, expires_at: new Date(expiresAt) })
    }
    const status = ends.get(type)
    if (status === undefined || !('holdId' in payload)) continue
    const hold = fold.get(payload.holdId)!
    Object.assign(hold, { status, ended_version: String(version), ended_at: new Date(at) })
    if (type !== 'HoldCaptured.v1') continue
    Object.assign(hold, { captured_amount: payload.amount, transaction_id: payload.transactionId })
  }
  const { rows } = await model.pool.query<{ id: string }>(
    `select * from read.holds where account_id like 'story-%'`,
  )
  expect(new Map(rows.map((row) => [row.id, row]))).toEqual(fold)
})
