import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openCursor } from '../cursor.ts'
import { readingSession, type Session, type TestOutbox, testOutbox } from '../test-outbox.ts'
import type { OutboxRow } from '../wire.ts'
import { wireTime } from './pgoutput.ts'
import { tableColumns } from './test-pgoutput.ts'
import { openSlot, readLog } from './test-log-reader.ts'

let outbox: TestOutbox
beforeEach(async () => {
  outbox = await testOutbox()
})
afterEach(() => outbox[Symbol.asyncDispose]())

/** A stream of this database, under a slot whose name is nobody else's on the server. */
async function stream() {
  const name = `test_${new URL(outbox.cdcUrl).pathname.slice(-10)}`
  const opened = await openSlot(outbox.cdcUrl, name)
  return Object.assign(readLog(opened), {
    session: opened.session,
    [Symbol.asyncDispose]: () => opened.session[Symbol.asyncDispose](),
  })
}

const versions = (rows: readonly OutboxRow[]) => rows.map((row) => `${row[3]}@${row[4]}`)

const payloads = [
  '{"amount":"1.10","n":1.10,"big":1234567890123456789,"e":1e400}',
  `{"text":"Zoë ☃ 💧 it''s \\\\ \\" \\n \\u0041", "spaces":   [ 1 ,2 ]}`.replace("''", "'"),
  `${'{"a":['.repeat(500)}null${']}'.repeat(500)}`,
  JSON.stringify({ large: 'ünï-'.repeat(180_000) }),
  '"just text"',
  'null',
]
const times = [
  '2026-11-21 08:00:00+00',
  '2026-11-21 08:00:00.120+00',
  '2026-11-21 10:00:00.123456+02',
  '1999-12-31 23:59:59.999999-12',
]

type Written = { text: string; payload: string; time: string }

const chosen: readonly Written[] = payloads.flatMap((payload) =>
  times.map((time) => ({ text: `Zoë's "☃"\n\\`, payload, time })),
)

/** Any text and any JSON that the table takes, at any microsecond. */
const anything: fc.Arbitrary<Written> = fc.record({
  text: fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0')),
  payload: fc.oneof(
    fc.json(),
    fc.string({ unit: 'grapheme' }).map((text) => JSON.stringify(text)),
  ),
  time: fc
    .tuple(
      fc.date({ min: new Date('1900-01-01Z'), max: new Date('2200-01-01Z'), noInvalidDate: true }),
      fc.nat(999),
    )
    .map(([date, us]) => date.toISOString().replace('Z', `${String(us).padStart(3, '0')}Z`)),
})

/** Each row in a transaction of its own. */
async function insertAll({ client }: Session, rows: readonly Written[]): Promise<void> {
  for (const [n, { text, payload, time }] of rows.entries()) {
    await client.query(
      `insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload,
          source, specversion, traceparent, correlationid, causationid, occurred_at)
       values (gen_random_uuid(), 'acc''ount', $1, $2, 'T.v1', $3, $1, '1.0', $4, '', ' ', $5)`,
      [text, n + 1, payload, 'tab\there', time],
    )
  }
}

/** The rows of test_decoding's text, which is the server's own and knows nothing of our decoder. */
function rowsOf(changes: readonly string[]): Record<string, string>[] {
  return changes
    .filter((change) => change.startsWith('table outbox.events'))
    .map((change) => {
      const cells = change.matchAll(/ "?(\w+)"?\[[^\]]+\]:(?:'((?:[^']|'')*)'|(\S+))/g)
      return Object.fromEntries(
        [...cells].map(([, name, text, bare]) => [name, text?.replaceAll("''", "'") ?? bare ?? '']),
      )
    })
}

const wireOrder = [
  'position',
  'id',
  'aggregatetype',
  'aggregateid',
  'aggregateversion',
  'type',
  'occurred_at',
  'source',
  'specversion',
  'correlationid',
  'causationid',
  'traceparent',
  'payload',
]

test('the log brings what test_decoding finds in it, and what polling reads in the table', async () => {
  await using superuser = await outbox.superuser()
  const slot = `judge_${new URL(outbox.cdcUrl).pathname.slice(-10)}`
  await superuser.sql(`select pg_create_logical_replication_slot('${slot}', 'test_decoding', true)`)
  await using log = await stream()
  await using writer = await outbox.writer()
  const seed = Date.now()
  const written = [...chosen, ...fc.sample(anything, { seed, numRuns: 300 })]
  const count = written.length
  await insertAll(writer, written)
  await log.until(BigInt(count))

  const { rows: changes } = await superuser.client.query<{ data: string }>(
    `select data from pg_logical_slot_get_changes('${slot}', null, null)`,
  )
  const judged = rowsOf(changes.map(({ data }) => data)).map((row) =>
    wireOrder.map((name) => (name === 'occurred_at' ? wireTime(row[name] ?? '') : row[name])),
  )
  expect(judged, `seed ${seed}`).toHaveLength(count)
  expect(Object.keys(rowsOf([changes[1]?.data ?? ''])[0] ?? {})).toEqual(tableColumns)
  expect(log.rows, `seed ${seed}`).toEqual(judged)

  await using reading = await readingSession(outbox.relayUrl)
  const cursor = openCursor(reading.client)
  const polled: OutboxRow[] = []
  for (let batch = await cursor.read({ next: 1n, gaps: [] }); batch.rows.length > 0;) {
    polled.push(...batch.rows)
    batch = await cursor.read(batch.after)
  }
  expect(log.rows, `seed ${seed}`).toEqual(polled)
})

test('a column that is added in mid-stream, and one that is dropped, change no row', async () => {
  await using superuser = await outbox.superuser()
  await using writer = await outbox.writer()
  await using log = await stream()
  await writer.insert({ aggregateId: 'a', version: 1 })
  await superuser.sql('alter table outbox.events add column tenant text')
  await writer.insert({ aggregateId: 'a', version: 2 })
  await superuser.sql("alter table outbox.events alter column tenant set default 'x'")
  await writer.insert({ aggregateId: 'a', version: 3 })
  await superuser.sql('alter table outbox.events drop column tenant')
  const [last = 0n] = await writer.insert({ aggregateId: 'a', version: 4 })
  await log.until(last)
  expect(versions(log.rows)).toEqual(['a@1', 'a@2', 'a@3', 'a@4'])
  expect(new Set(log.rows.map((row) => row.length))).toEqual(new Set([13]))
})

test('what was rolled back does not come, and what was prepared comes when it is committed', async () => {
  await using slow = await outbox.superuser()
  await using quick = await outbox.writer()
  await using log = await stream()
  const prepared = `p_${new URL(outbox.cdcUrl).pathname.slice(-10)}`
  await slow.sql('begin')
  await slow.insert({ aggregateId: 'p', version: 1 })
  await slow.sql('savepoint s')
  await slow.insert({ aggregateId: 'p', version: 99 })
  await slow.sql('rollback to savepoint s')
  await slow.sql('savepoint t')
  const [last = 0n] = await slow.insert({ aggregateId: 'p', version: 2 })
  await slow.sql('release savepoint t')
  await slow.sql(`prepare transaction '${prepared}'`)
  await quick.sql('begin')
  await quick.insert({ aggregateId: 'rolled-back', version: 1 })
  await quick.sql('rollback')
  const [first = 0n] = await quick.insert({ aggregateId: 'q', version: 1 })
  await log.until(first)
  expect(versions(log.rows)).toEqual(['q@1'])
  await slow.sql(`commit prepared '${prepared}'`)
  await log.until(last)
  expect(versions(log.rows)).toEqual(['q@1', 'p@1', 'p@2'])
})

test('rows of all partitions come as those of one table', async () => {
  await using superuser = await outbox.superuser()
  await using writer = await outbox.writer()
  await using log = await stream()
  await superuser.sql("select setval('outbox.events_position_seq', 9999999)")
  const positions = await writer.insert(
    { aggregateId: 'a', version: 1 },
    { aggregateId: 'a', version: 2 },
    { aggregateId: 'a', version: 3 },
  )
  await log.until(positions.at(-1) ?? 0n)
  expect(log.positions()).toEqual([10_000_000n, 10_000_001n, 10_000_002n])
})

test('a partition attached in mid-stream, and one detached and dropped, lose nothing', async () => {
  await using superuser = await outbox.superuser()
  await using writer = await outbox.writer()
  await using log = await stream()
  await writer.insert({ aggregateId: 'a', version: 1 })
  log.session.pause()
  await writer.insert({ aggregateId: 'a', version: 2 })
  const { rows } = await superuser.client.query<{ name: string }>(
    `select inhrelid::regclass::text as name from pg_inherits
      where inhparent = 'outbox.events'::regclass order by 1`,
  )
  const first = rows[0]?.name ?? ''
  await superuser.sql(
    `create table outbox.fresh (like outbox.events including all excluding identity)`,
  )
  await superuser.sql(
    `alter table outbox.events attach partition outbox.fresh for values from (100000001) to (200000001)`,
  )
  await superuser.sql(`select setval('outbox.events_position_seq', 100000000)`)
  const [last = 0n] = await superuser.insert({ aggregateId: 'a', version: 3 })
  await superuser.sql(`alter table outbox.events detach partition ${first} concurrently`)
  await superuser.sql(`drop table ${first}`)
  log.session.resume()
  await log.until(last)
  expect(versions(log.rows)).toEqual(['a@1', 'a@2', 'a@3'])
})
