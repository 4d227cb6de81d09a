import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  decode,
  encode,
  MalformedRecord,
  type OutboxRow,
  topicOf,
  type WireRecord,
} from './wire.ts'

const row: OutboxRow = [
  '41',
  '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10',
  'account',
  'a-1',
  '7',
  'FundsDeposited.v1',
  '2026-11-21T08:00:00.120000Z',
  'urn:sluice:command-api',
  '1.0',
  'corr-1',
  '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e11',
  '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  '{"b":1,"a": 1.10, "name":"Zoë ☃"}',
]

/** As a consumer has it: bytes, and headers by name. */
function asConsumed(source: OutboxRow, changes: Partial<WireRecord['headers']> = {}): WireRecord {
  const { topic, key, value, headers } = encode(source)
  const named = Object.fromEntries(headers.map(([name, text]) => [name, Buffer.from(text)]))
  return {
    topic,
    key: Buffer.from(key),
    value: Buffer.from(value),
    headers: { ...named, ...changes },
  }
}

// Changing this changes what every consumer reads: the connector's configuration and the reader of
// the log must change with it, and consumers before all of them.
test('a row becomes exactly this record', () => {
  expect(encode(row)).toEqual({
    topic: 'account-events',
    key: 'a-1',
    value: '{"b":1,"a": 1.10, "name":"Zoë ☃"}',
    headers: [
      ['id', '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10'],
      ['ce_type', 'FundsDeposited.v1'],
      ['ce_sequence', '7'],
      ['ce_time', '2026-11-21T08:00:00.120000Z'],
      ['ce_source', 'urn:sluice:command-api'],
      ['ce_specversion', '1.0'],
      ['ce_id', '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10'],
      ['ce_correlationid', 'corr-1'],
      ['ce_causationid', '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e11'],
      ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
      ['content-type', 'application/json'],
    ],
  })
})

test('decoding gives back what was encoded, its payload to the byte', () => {
  expect(decode(asConsumed(row))).toEqual({
    id: row[1],
    aggregateType: 'account',
    aggregateId: 'a-1',
    aggregateVersion: 7n,
    type: 'FundsDeposited.v1',
    time: '2026-11-21T08:00:00.120000Z',
    source: 'urn:sluice:command-api',
    correlationId: 'corr-1',
    causationId: row[10],
    traceparent: row[11],
    payload: row[12],
  })
  fc.assert(
    fc.property(fc.json(), fc.bigInt({ min: 1n, max: 2n ** 62n }), (payload, version) => {
      const changed = row.with(12, payload).with(4, String(version)) as unknown as OutboxRow
      const envelope = decode(asConsumed(changed))
      expect(envelope.payload).toBe(payload)
      expect(envelope.aggregateVersion).toBe(version)
    }),
  )
})

test('the topic is the aggregate type and -events', () => {
  expect(topicOf('command-rejection')).toBe('command-rejection-events')
})

test.each([
  ['id', 'not-a-uuid'],
  ['id', undefined],
  ['ce_id', '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e12'],
  ['ce_sequence', '0'],
  ['ce_sequence', '1e3'],
  ['ce_sequence', undefined],
  ['ce_time', '2026-11-21T08:00:00.120Z'],
  ['ce_time', '2026-11-21T08:00:00.120000+00:00'],
  ['ce_type', ''],
  ['ce_source', undefined],
  ['ce_specversion', '1'],
  ['ce_correlationid', undefined],
  ['ce_causationid', ['one', 'two']],
  ['traceparent', undefined],
  ['content-type', 'text/plain'],
])('a record whose %s is %j is refused by name', (name, value) => {
  const record = asConsumed(row, { [name]: value })
  expect(() => decode(record)).toThrow(MalformedRecord)
  expect(() => decode(record)).toThrow(
    expect.objectContaining({ code: 'malformed_record', part: name }),
  )
})

test.each(['key', 'value'] as const)('a record without a %s is refused by name', (part) => {
  const record = { ...asConsumed(row), [part]: null }
  expect(() => decode(record)).toThrow(expect.objectContaining({ code: 'malformed_record', part }))
})

test('a record of another topic is refused', () => {
  const record = { ...asConsumed(row), topic: 'account-state' }
  expect(() => decode(record)).toThrow(expect.objectContaining({ part: 'topic' }))
})
