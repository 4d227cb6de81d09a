import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RelayError } from '../errors.ts'
import type { OutboxRow } from '../wire.ts'
import { type Decoded, PgoutputDecoder, wireTime } from './pgoutput.ts'
import { begin, commit, insert, relation, tableColumns } from './test-pgoutput.ts'

const values: Readonly<Record<string, string>> = {
  position: '9223372036854775807',
  id: '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10',
  aggregatetype: 'account',
  aggregateid: 'Zoë-☃',
  aggregateversion: '7',
  type: 'FundsDeposited.v1',
  payload: '{"b":1,"a": 1.10}',
  source: 'urn:sluice:command-api',
  specversion: '1.0',
  traceparent: 'trace',
  correlationid: 'corr',
  causationid: '',
  occurred_at: '2026-11-21 08:00:00.12+00',
}
const row: OutboxRow = [
  '9223372036854775807',
  '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10',
  'account',
  'Zoë-☃',
  '7',
  'FundsDeposited.v1',
  '2026-11-21T08:00:00.120000Z',
  'urn:sluice:command-api',
  '1.0',
  'corr',
  '',
  'trace',
  '{"b":1,"a": 1.10}',
]
const cells = (columns: readonly string[]) => columns.map((column) => values[column] ?? 'unused')

/** What the last of the messages means after those before it. */
function decoded(...messages: readonly Buffer[]): Decoded {
  const decoder = new PgoutputDecoder()
  return messages.map((bytes) => decoder.decode(bytes)).at(-1) ?? { kind: 'other' }
}

const malformed = (message: RegExp) =>
  expect.objectContaining({
    code: 'stream_malformed',
    message: expect.stringMatching(message),
  }) as Error

test('a transaction is a begin, its rows, and a commit that ends where the next begins', () => {
  const decoder = new PgoutputDecoder()
  const all = [begin(), relation(tableColumns), insert(cells(tableColumns)), commit(208n)]
  expect(all.map((bytes) => decoder.decode(bytes))).toEqual([
    { kind: 'begin' },
    { kind: 'other' },
    { kind: 'row', row },
    { kind: 'commit', end: 208n },
  ])
})

test.each(['O', 'Y', 'M'])('a message of type %s says nothing of our rows', (type) => {
  expect(decoded(Buffer.from(`${type}whatever`))).toEqual({ kind: 'other' })
})

describe('columns are found by name in the latest description', () => {
  test.each([
    ['reordered', tableColumns.toReversed()],
    ['with one more', [...tableColumns.slice(0, 4), 'tenant', ...tableColumns.slice(4)]],
    ['with one less that nobody reads', tableColumns],
  ])('%s', (_what, columns) => {
    const first = [...tableColumns, 'unread']
    const decoder = new PgoutputDecoder()
    decoder.decode(relation(first))
    expect(decoder.decode(insert(cells(first)))).toEqual({ kind: 'row', row })
    decoder.decode(relation(columns))
    expect(decoder.decode(insert(cells(columns)))).toEqual({ kind: 'row', row })
  })

  test('of the table that the row is of', () => {
    const other = tableColumns.toReversed()
    const messages = [relation(tableColumns, 1), relation(other, 2)]
    expect(decoded(...messages, insert(cells(tableColumns), 1))).toEqual({ kind: 'row', row })
    expect(decoded(...messages, insert(cells(other), 2))).toEqual({ kind: 'row', row })
  })

  test('a column that nobody reads may be null', () => {
    const columns = ['tenant', ...tableColumns]
    const bytes = insert([null, ...cells(tableColumns)])
    expect(decoded(relation(columns), bytes)).toEqual({ kind: 'row', row })
  })
})

test.each<[string, readonly Buffer[], RegExp]>([
  ['nothing', [Buffer.alloc(0)], /type/],
  ['an update', [Buffer.from('U')], /type "U".*publish = 'insert'/],
  ['a delete', [Buffer.from('D')], /type "D"/],
  ['a truncate', [Buffer.from('T')], /type "T"/],
  ['a row of a table that was not described', [insert([])], /relation 16400.*not described/],
  ['a table without a column', [relation(['position', 'id'])], /no column aggregatetype, /],
  [
    'a null',
    [relation(tableColumns), insert([null, ...cells(tableColumns).slice(1)])],
    /no text in column position of outbox\.events/,
  ],
  [
    'a value that is stored elsewhere',
    [relation(tableColumns), insert([undefined, ...cells(tableColumns).slice(1)])],
    /no text in column position/,
  ],
  [
    'a row that is too short',
    [relation(tableColumns), insert(cells(tableColumns).slice(1))],
    /a row of 12 columns/,
  ],
  [
    'a row that is too long',
    [relation(tableColumns), insert([...cells(tableColumns), 'more'])],
    /a row of 14 columns/,
  ],
  ['bytes after the end', [Buffer.concat([commit(8n), Buffer.from([0])])], /1 more bytes/],
])('%s is refused', (_what, messages, message) => {
  expect(() => decoded(...messages)).toThrow(malformed(message))
})

describe('a time', () => {
  test.each([
    ['2026-11-21 08:00:00+00', '2026-11-21T08:00:00.000000Z'],
    ['2026-11-21 08:00:00.1+00', '2026-11-21T08:00:00.100000Z'],
    ['2026-11-21 08:00:00.123456+00', '2026-11-21T08:00:00.123456Z'],
    ['10000-01-01 00:00:00+00', '10000-01-01T00:00:00.000000Z'],
  ])('%s is %s on the wire', (text, time) => {
    expect(wireTime(text)).toBe(time)
  })

  test.each([
    'infinity',
    '0044-03-15 12:00:00+00 BC',
    '2026-11-21 08:00:00+01',
    '2026-11-21 08:00:00.1234567+00',
    '2026-11-21T08:00:00Z',
    '21/11/2026 08:00:00+00',
    '',
  ])('%j is refused', (text) => {
    expect(() => wireTime(text)).toThrow(malformed(/a time as/))
  })
})

// Whatever bytes come: a value, or `stream_malformed`; and never a row that lacks a column.

const real = [begin(), relation(tableColumns), insert(cells(tableColumns)), commit(208n)]

function expectSafe(bytes: Buffer): void {
  const decoder = new PgoutputDecoder()
  for (const message of real) decoder.decode(message)
  for (const each of [bytes, insert(cells(tableColumns))]) {
    try {
      const found = decoder.decode(each)
      if (found.kind !== 'row') continue
      expect(found.row).toHaveLength(13)
      for (const value of found.row) expect(typeof value).toBe('string')
    } catch (error) {
      if (error instanceof RelayError && error.code === 'stream_malformed') continue
      throw error
    }
  }
}

const types = ['B', 'C', 'R', 'I', 'O', 'Y', 'M', 'U', 'D', 'T', '\0']

describe('the decoder is safe', () => {
  test('with any bytes, of any of its types', () => {
    const bytes = fc.tuple(fc.constantFrom(...types), fc.uint8Array({ maxLength: 90 }))
    fc.assert(
      fc.property(bytes, ([type, rest]) => expectSafe(Buffer.concat([Buffer.from(type), rest]))),
      { numRuns: 5_000 },
    )
  })

  test('with every message cut at every byte, and no cut one is a row', () => {
    for (const message of real) {
      for (let length = 0; length < message.length; length += 1) {
        expectSafe(message.subarray(0, length))
        const cut = () => decoded(relation(tableColumns), message.subarray(0, length))
        expect(cut).toThrow(malformed(/./))
      }
    }
  })

  test('with real messages of which some bytes are others', () => {
    const mutations = fc.array(fc.tuple(fc.nat(2_000), fc.nat(255)), { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(fc.constantFrom(...real), mutations, (message, changes) => {
        const bytes = Buffer.from(message)
        for (const [at, value] of changes) bytes[at % bytes.length] = value
        expectSafe(bytes)
      }),
      { numRuns: 10_000 },
    )
  })
})
