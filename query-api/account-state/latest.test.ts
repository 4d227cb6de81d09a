import { decode, type OutboxRow } from 'outbox-relay/wire'
import { expect, test } from 'vitest'
import { consumed, eventRow, historyOf, interleave, outboxRow, timeOf } from '../test-events.ts'
import { foldStates, RecentHeads, stateIn } from './latest.ts'

const records = (rows: readonly OutboxRow[]) =>
  rows.map((row, index) => consumed(row, BigInt(index)))
const versions = ({ states }: ReturnType<typeof foldStates>) =>
  Object.fromEntries(states.map(({ account, version }) => [account, version]))

test("a state is the event's own state after it", () => {
  const row = eventRow('a', 3, { balance: '-999999999999999999' })
  const { key, value, headers } = consumed(row, 0n)
  const state = stateIn(decode({ key, value, headers }))
  expect(state).toMatchObject({ account: 'a', version: 3, eventId: row[1] })
  expect(JSON.parse(state.value)).toEqual({
    id: 'a',
    version: 3,
    ledgerBalance: '-999999999999999999',
    held: '0',
    available: '-999999999999999999',
    status: 'open',
    lastEventId: row[1],
    asOf: timeOf(3),
  })
})

test('of a chunk the latest state of each account is written once', () => {
  const rows = interleave([historyOf('a', 4), historyOf('b', 2)])
  const folded = foldStates(new RecentHeads(), records(rows))
  expect(folded).toMatchObject({ events: 6, duplicates: 0 })
  expect(versions(folded)).toEqual({ a: 4, b: 2 })
})

test('an event that comes again, in the chunk or in the next, brings no older state back', () => {
  const rows = historyOf('a', 5)
  const heads = new RecentHeads()
  const first = foldStates(heads, records([...rows.slice(0, 4), ...rows.slice(1, 3)]))
  expect(first).toMatchObject({ events: 4, duplicates: 2 })
  expect(versions(first)).toEqual({ a: 4 })
  heads.note(first.states)
  expect(foldStates(heads, records(rows.slice(0, 4)))).toMatchObject({ states: [], duplicates: 4 })
  expect(versions(foldStates(heads, records(rows)))).toEqual({ a: 5 })
  // Control: without what is remembered it would.
  expect(versions(foldStates(new RecentHeads(), records(rows.slice(0, 2))))).toEqual({ a: 2 })
})

test('a missing event is no harm, and of two events of one version the later counts', () => {
  const rows = historyOf('a', 5)
  expect(versions(foldStates(new RecentHeads(), records([rows[0]!, rows[4]!])))).toEqual({ a: 5 })
  const other = eventRow('a', 5, { balance: '77' })
  const folded = foldStates(new RecentHeads(), records([...rows, other]))
  expect(folded.conflicts).toEqual(['a'])
  expect(folded.states[0]?.value).toContain('"ledgerBalance":"77"')
})

test('an event type of tomorrow is read, and what is no event of its account is left out', () => {
  const after = { version: 2, ledgerBalance: '5', held: '0', available: '5', status: 'open' }
  const row = (account: string, payload: object) =>
    outboxRow({ account, version: 2, type: 'Unheard.v9', at: timeOf(2), payload })
  const known = row('a', { accountId: 'a', unheard: true, after })
  const foreign = row('b', { accountId: 'other', after })
  const empty = row('c', {})
  const folded = foldStates(new RecentHeads(), records([known, foreign, empty]))
  expect(versions(folded)).toEqual({ a: 2 })
  expect(folded.unreadable.map(({ offset }) => offset)).toEqual([1n, 2n])
})

test('what is remembered is bounded, and the accounts written last stay', () => {
  const heads = new RecentHeads(2)
  for (const account of ['a', 'b', 'a', 'c']) {
    heads.note([{ account, version: 1, eventId: 'x', value: '' }])
  }
  expect(['a', 'b', 'c'].map((account) => heads.of(account) !== undefined)).toEqual([
    true,
    false,
    true,
  ])
})
