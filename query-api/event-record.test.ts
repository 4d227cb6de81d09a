import { heartbeatIds, heartbeatType } from 'command-api/events'
import type { OutboxRow } from 'outbox-relay/wire'
import { expect, test } from 'vitest'
import { readRecord } from './event-record.ts'
import { consumed, eventRow, outboxRow, timeOf } from './test-events.ts'

const read = (row: OutboxRow) => readRecord(consumed(row, 0n))

test('an event is read with its account, version and id', () => {
  const row = eventRow('a', 2)
  expect(read(row)).toMatchObject({
    kind: 'event',
    event: { account: 'a', version: 2, id: row[1], event: { type: 'FundsDeposited.v1' } },
  })
})

test('a heartbeat is known by its type and a reserved id', () => {
  const beat = { type: heartbeatType, version: 1, at: timeOf(1), payload: { at: timeOf(1) } }
  expect(read(outboxRow({ ...beat, account: heartbeatIds[0]! }))).toEqual({
    kind: 'heartbeat',
    occurredAt: timeOf(1),
  })
  expect(() => read(outboxRow({ ...beat, account: 'a' }))).toThrow('no reserved id')
})

test.each<[string, string, OutboxRow]>([
  ['unknown_event_type', 'a type of a later version', eventRow('a', 2, { type: 'Tomorrow.v9' })],
  ['event_malformed', 'an amount as it must not be', eventRow('a', 2, { amount: '-1' })],
  ['record_malformed', 'a second opening', eventRow('a', 1).with(4, '2') as never],
  ['record_malformed', 'another account than its key', eventRow('a', 2).with(3, 'b') as never],
  ['record_malformed', 'a deposit first', asFirst(eventRow('a', 2))],
])('%s: %s', (code, _what, row) => {
  expect(() => read(row)).toThrow(expect.objectContaining({ name: 'RecordUnreadable', code }))
})

test('a record without value or headers is malformed, not a crash', () => {
  const record = consumed(eventRow('a', 2), 0n)
  for (const broken of [
    { ...record, value: null },
    { ...record, headers: {} },
  ]) {
    expect(() => readRecord(broken)).toThrow(expect.objectContaining({ code: 'record_malformed' }))
  }
})

function asFirst(row: OutboxRow): OutboxRow {
  const payload = row[12].replace('"version":2', '"version":1')
  return row.with(4, '1').with(12, payload) as unknown as OutboxRow
}
