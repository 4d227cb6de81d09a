import type { OutboxRow } from 'outbox-relay/wire'
import { afterAll, expect, test } from 'vitest'
import { eventRow, projected } from '../test-events.ts'
import { openReadModel } from './test-read-model.ts'
import { riskRoutes } from './risk-reads.ts'
import { risk } from './risk.ts'

const model = await openReadModel({ projection: risk, routes: riskRoutes })
afterAll(() => model[Symbol.asyncDispose]())
const { apply, rebuild } = model

type Flag = { accountId: string; kind: string; version: number; asOf: string; events: object[] }
const list = async (query: Record<string, string> = {}) => model.body('/risk/flags', { query })
const flagsOf = async (account: string, query: Record<string, string> = {}) =>
  (await list({ account, ...query }))['items'] as Flag[]

/** Opened and paid into, then emptied by six withdrawals, one a minute. */
function hurry(account: string): OutboxRow[] {
  const paid = eventRow(account, 2, { amount: '600', balance: '600' })
  const drawn = [500, 400, 300, 200, 100, 0].map((balance, index) =>
    eventRow(account, index + 3, {
      amount: '100',
      balance: String(balance),
      type: 'FundsWithdrawn.v1',
    }),
  )
  return [eventRow(account, 1), paid, ...drawn]
}

async function queued(account: string): Promise<string[]> {
  const { rows } = await model.pool.query<{ kind: string }>(
    'select kind from read.notifications where account_id = $1 order by kind',
    [account],
  )
  return rows.map(({ kind }) => kind)
}

test('flags name the events that raised them, the newest first', async () => {
  const rows = hurry('named')
  await apply(rows)
  const flags = await flagsOf('named')
  expect(flags).toMatchObject([
    { kind: 'emptied', version: 8, detail: 'emptied within 24 hours of its opening' },
    { kind: 'velocity', version: 7, detail: '5 withdrawals within 10 minutes' },
  ])
  expect(flags[1]?.events.map((event) => (event as { id: string }).id)).toEqual(
    rows.slice(2, 7).map((row) => row[1]),
  )
  expect((await list({ kind: 'velocity', account: 'named' }))['items']).toHaveLength(1)
  const [from, to] = [flags[1]!.asOf, flags[0]!.asOf]
  expect(await flagsOf('named', { from, to })).toMatchObject([{ version: 7 }])
})

test('twice delivered, in one batch or one by one, and rebuilt, the flags are the same', async () => {
  const rows = hurry('same')
  for (const row of rows) await apply([row, row])
  const once = await flagsOf('same')
  await apply(rows)
  expect(await flagsOf('same')).toEqual(once)
  expect(once).toHaveLength(2)
  await rebuild('same', rows.map(projected))
  expect(await flagsOf('same')).toEqual(once)
})

test('what the log brings is queued to be told, and what a rebuild brings is not', async () => {
  const rows = hurry('told')
  await apply(rows)
  expect(await queued('told')).toEqual(['risk_emptied', 'risk_velocity'])
  await model.pool.query(`delete from read.notifications where account_id = 'told'`)
  await rebuild('told', rows.map(projected))
  expect(await queued('told')).toEqual([])
  expect(await flagsOf('told')).toHaveLength(2)
})

test('a list goes on where it was, though flags are raised meanwhile', async () => {
  await apply(hurry('page-a'))
  const first = await list({ limit: '1', kind: 'emptied' })
  await apply(hurry('page-b'))
  const seen = (first['items'] as Flag[]).map(({ accountId }) => accountId)
  for (let next = first['next']; next !== null;) {
    const page = await list({ limit: '1', kind: 'emptied', cursor: next as string })
    seen.push(...(page['items'] as Flag[]).map(({ accountId }) => accountId))
    next = page['next']
  }
  expect(new Set(seen).size).toBe(seen.length)
  expect(seen).toEqual(expect.arrayContaining(['named', 'same', 'told', 'page-a']))
})
