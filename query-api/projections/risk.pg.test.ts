import type { OutboxRow } from 'outbox-relay/wire'
import { afterAll, expect, test } from 'vitest'
import type { ProjectedEvent } from '../projection.ts'
import { eventRow, projected } from '../test-events.ts'
import { storyOf } from '../test-story.ts'
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
  expect(seen).toEqual(expect.arrayContaining(['named', 'told', 'page-a']))
})

const minutes = (from: ProjectedEvent, to: ProjectedEvent) =>
  (Date.parse(to.event.at) - Date.parse(from.event.at)) / 60_000

/** The rules once more, in other words: each event is held against all of its account before it. */
function flagsIn(own: readonly ProjectedEvent[]): string[] {
  const flags: string[] = []
  const drawn: { event: ProjectedEvent; amount: number }[] = []
  let hurried: ProjectedEvent | undefined
  let isEmptied = false
  for (const [index, event] of own.entries()) {
    const { type, payload } = event.event
    if (!/^(FundsWithdrawn|FundsTransferredOut|HoldCaptured)/.test(type)) continue
    const amount = Number('amount' in payload ? payload.amount : 0)
    const earlier = drawn.map((each) => each.amount)
    const first = drawn.at(-4)?.event
    drawn.push({ event, amount })
    const isNew = hurried === undefined || (first !== undefined && minutes(hurried, first) > 0)
    if (first !== undefined && isNew && minutes(first, event) <= 10) {
      flags.push(`velocity ${event.version}`)
      hurried = event
    }
    const mean = earlier.reduce((sum, each) => sum + each, 0) / earlier.length
    const variance = earlier.reduce((sum, each) => sum + (each - mean) ** 2, 0) / earlier.length
    if (earlier.length >= 10 && amount > mean + 3 * Math.sqrt(variance) && amount >= 3 * mean) {
      flags.push(`outlier ${event.version}`)
    }
    const balances = own
      .slice(0, index)
      .map((each) => Number(each.event.payload.after.ledgerBalance))
    const highest = Math.max(0, ...balances)
    const left = Number(payload.after.ledgerBalance)
    const isYoung = minutes(own[0]!, event) <= 24 * 60
    if (!isEmptied && isYoung && highest > 0 && left * 20 <= highest) {
      flags.push(`emptied ${event.version}`)
      isEmptied = true
    }
  }
  return flags
}

test('of a story with every type of event, the flags are those of a fold in memory', async () => {
  const story = [28, 29, 30].flatMap((seed) => storyOf(seed, { accounts: 8 }))
  for (let from = 0; from < story.length; from += 50) await apply(story.slice(from, from + 50))
  const histories = Map.groupBy(story.map(projected), ({ account }) => account)
  const fold = [...histories].flatMap(([account, own]) =>
    flagsIn(own).map((flag) => `${account} ${flag}`),
  )
  const { rows } = await model.pool.query<{ flag: string }>(
    `select concat_ws(' ', account_id, kind, version) as flag from read.risk_flags
      where account_id like 'story-%'`,
  )
  expect(rows.map(({ flag }) => flag).toSorted()).toEqual(fold.toSorted())
  for (const kind of ['velocity', 'outlier', 'emptied']) {
    expect(fold.some((flag) => flag.includes(kind))).toBe(true)
  }
})
