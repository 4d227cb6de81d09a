import { type CloudEvent, Kafka } from 'cloudevents'
import { partitionOf } from 'kafka/partition'
import type { DumpedBytes } from 'kafka/topic-dump'
import { expect, test } from 'vitest'
import type { TestedMode } from './test-modes.ts'
import { drained, openStage, sending, sendsBy, type Stage, undisturbed } from './test-stage.ts'

// The same rows by every way there is to Kafka, and the bytes that the contract asks for, written down
// here: no code of ours has a say in what is expected, but for the partition.

type GoldenRow = {
  id: string
  key: string
  version: string
  payload: string
  /** As written to the database, and as the record has it. */
  time: readonly [written: string, sent: string]
  correlation: string
  causation: string
}

const plainTime = ['2026-11-21 09:00:00.12+01', '2026-11-21T08:00:00.120000Z'] as const
const payloads = [
  '{"b":1,"a": 1.10,  "n":12345678901234567890, "z":1e-7,"last":9223372036854775807}',
  '{"astral":"𝄞😀","combining":"e\u0301 n\u0303","rtl":"שלום \u202eمرحبا","zwj":"👩‍👩‍👧"}',
  '{"escaped":"\\u00e4 \\ud834\\udd1e \\" \\\\ \\/ \\b\\f\\n\\r\\t","nul":"\\u0000","lone":"\\ud83d"}',
  ' { "spaces" : [ 1 , 2 ] ,\n\t"twice":1,"twice":2 } ',
  `${'[{"a":'.repeat(200)}0${'}]'.repeat(200)}`,
  `{"large":"${'0123456789äöü'.repeat(56_250)}"}`,
  '""',
  '0',
  'null',
]
const times = [
  ['2026-11-21 08:00:00Z', '2026-11-21T08:00:00.000000Z'],
  ['2026-11-21 08:00:00.123Z', '2026-11-21T08:00:00.123000Z'],
  ['2026-11-21 08:00:00.123456Z', '2026-11-21T08:00:00.123456Z'],
  ['2026-12-31 23:59:59.999999Z', '2026-12-31T23:59:59.999999Z'],
  ['2016-12-31 23:59:60Z', '2017-01-01T00:00:00.000000Z'],
  ['2026-03-29 02:30:00.000001 Europe/Vienna', '2026-03-29T01:30:00.000001Z'],
  ['1969-12-31 23:59:59.5Z', '1969-12-31T23:59:59.500000Z'],
] as const
const texts = ['', ' ', '=,;"', 'ünïcode 𝄞', '\u202eשלום']
const keys = ['Zoë-☃', '𝄞', 'e\u0301', 'é', ' ', '0']

const rowOf = (n: number, change: Partial<GoldenRow>): GoldenRow => ({
  id: `0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e${String(n).padStart(2, '0')}`,
  key: `a-${n}`,
  version: '1',
  payload: '{"amount":"1"}',
  time: plainTime,
  correlation: 'corr-1',
  causation: 'cause-1',
  ...change,
})

const rows = [
  ...payloads.map((payload) => ({ payload })),
  ...times.map((time) => ({ time })),
  ...texts.map((text) => ({ correlation: text, causation: text })),
  ...keys.map((key) => ({ key })),
  { version: '9223372036854775807' },
].map((change, n) => rowOf(n, change))

const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

function expectedRecord(row: GoldenRow) {
  const headers = [
    ['id', row.id],
    ['ce_type', 'FundsDeposited.v1'],
    ['ce_sequence', row.version],
    ['ce_time', row.time[1]],
    ['ce_source', 'urn:sluice:command-api'],
    ['ce_specversion', '1.0'],
    ['ce_id', row.id],
    ['ce_correlationid', row.correlation],
    ['ce_causationid', row.causation],
    ['traceparent', traceparent],
    ['content-type', 'application/json'],
  ] as const
  return {
    partition: partitionOf(row.key, 3),
    key: hex(row.key),
    value: hex(row.payload),
    headers: headers.map(([name, value]) => [name, hex(value)]),
  }
}

const hex = (text: string) => Buffer.from(text, 'utf8').toString('hex')

/** Raw bytes: a null is not an empty text, and text that is no UTF-8 is not mended by reading it. */
function bytesOf({ partition, key, value, headers }: DumpedBytes) {
  const raw = (bytes: Buffer | string | null | undefined) =>
    Buffer.isBuffer(bytes) ? bytes.toString('hex') : bytes
  return {
    partition,
    key: raw(key),
    value: raw(value),
    headers: headers.map(([name, each]) => [name, raw(each)]),
  }
}

async function insertRows(stage: Stage): Promise<void> {
  await using session = await stage.session()
  for (const row of rows) {
    await session.client.query(
      `insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload,
          source, specversion, traceparent, correlationid, causationid, occurred_at)
       values ($1, $2, $3, $4, 'FundsDeposited.v1', $5, 'urn:sluice:command-api', '1.0', $6, $7, $8,
          $9)`,
      [
        row.id,
        stage.aggregateType,
        row.key,
        row.version,
        row.payload,
        traceparent,
        row.correlation,
        row.causation,
        row.time[0],
      ],
    )
  }
}

/** As somebody reads it who knows CloudEvents and not us. */
function cloudEventOf({ key, value, headers }: DumpedBytes): CloudEvent<unknown> {
  const named = headers.map(([name, each]) => [name, String(each)])
  const message = {
    key: String(key),
    value: String(value),
    body: String(value),
    headers: Object.fromEntries(named) as Record<string, string>,
  }
  const event = Kafka.toEvent<unknown>(message)
  if (Array.isArray(event)) throw new TypeError('a record that reads as several events')
  return event as CloudEvent<unknown>
}

const idOf = ({ headers }: DumpedBytes) => String(headers[0]?.[1])

/** A mode, with each producer where the relay itself is the sender. */
export function waysOf(mode: TestedMode) {
  if (!mode.anyKafka) return [{ mode, name: mode.name, producer: 'direct' }]
  return ['kafkajs', 'direct'].map((producer) => {
    return { mode, name: `${mode.name} with ${producer}`, producer }
  })
}

export function testGolden(ways: ReturnType<typeof waysOf>): void {
  test.each(ways)(
    'by $name, each row is the contract’s bytes, and a CloudEvent',
    async ({ mode, producer }) => {
      await using stage = await openStage(mode)
      await stage.makeTopic()
      await using relay = await stage.relay({ KAFKA_PRODUCER: producer })
      await sendsBy(relay, mode)
      await insertRows(stage)
      await drained(relay, stage)
      expect(await sending(relay, stage)).toEqual(undisturbed(mode))
      const records = (await stage.dumpBytes()).toSorted((a, b) => (idOf(a) < idOf(b) ? -1 : 1))
      expect(records.map(bytesOf)).toEqual(rows.map(expectedRecord))
      for (const [n, record] of records.entries()) {
        const row = rows[n]!
        const event = cloudEventOf(record)
        expect(event).toMatchObject({
          id: row.id,
          type: 'FundsDeposited.v1',
          source: 'urn:sluice:command-api',
          specversion: '1.0',
          datacontenttype: 'application/json',
          time: new Date(row.time[1]).toISOString(),
          sequence: row.version,
          correlationid: row.correlation,
          partitionkey: row.key,
        })
        expect(event.validate()).toBe(true)
        expect(event.data).toEqual(JSON.parse(row.payload))
      }
    },
    60_000,
  )
}
