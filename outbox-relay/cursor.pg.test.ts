import { randomUUID } from 'node:crypto'
import { waitUntil } from 'local-stack/wait-until'
import { afterAll, beforeAll, beforeEach, afterEach, describe, expect, test } from 'vitest'
import { progressFrom } from './progress.ts'
import {
  ReadingRelay,
  readingSession,
  type Session,
  type TestOutbox,
  testOutbox,
} from './test-outbox.ts'

let outbox: TestOutbox
let session: Session
let relay: ReadingRelay
/** Where this test's own positions begin; earlier ones belong to earlier tests. */
let base: bigint

beforeAll(async () => {
  outbox = await testOutbox()
})
afterAll(() => outbox[Symbol.asyncDispose]())

beforeEach(async () => {
  await using writer = await outbox.writer()
  const [position = 0n] = await writer.insert({ aggregateId: 'marker', version: 1 })
  base = position
  session = await readingSession(outbox.relayUrl)
  relay = new ReadingRelay(session, {}, { next: position + 1n, gaps: [] })
})
afterEach(() => session[Symbol.asyncDispose]())

/** Reads until no gap is open; a gap that never closes fails the test. */
const settle = () =>
  waitUntil(
    async () => {
      await relay.poll()
      return relay.gaps.length === 0
    },
    { what: 'all gaps to close', deadlineMs: 5_000, intervalMs: 5 },
  )

describe('a row that commits late', () => {
  test('comes once it is visible, though rows above it were read long before', async () => {
    await using slow = await outbox.writer()
    await using quick = await outbox.writer()
    await slow.sql('begin')
    await slow.insert({ aggregateId: 'late', version: 1 })
    await quick.insert({ aggregateId: 'early', version: 1 })
    expect(await relay.poll()).toEqual(['early@1'])
    expect(relay.gaps).toEqual([[base + 1n, base + 1n]])
    for (let n = 0; n < 5; n += 1) expect(await relay.poll()).toEqual([])
    expect(relay.gaps).toEqual([[base + 1n, base + 1n]])
    await slow.sql('commit')
    expect(await relay.poll()).toEqual(['late@1'])
    expect(relay.gaps).toEqual([])
  })

  test('comes although it commits between the reading of holders and the next statement', async () => {
    await using slow = await outbox.writer()
    await using quick = await outbox.writer()
    await slow.sql('begin')
    await slow.insert({ aggregateId: 'late', version: 1 })
    await quick.insert({ aggregateId: 'early', version: 1 })
    await relay.poll()
    // The second poll reads holders, then rows; the commit falls between the two.
    const { client } = session
    const query = client.query.bind(client) as (config: { name: string }) => Promise<unknown>
    const committing = async (config: { name: string }) => {
      const answer = await query(config)
      if (config.name === 'relay-holders') await slow.sql('commit')
      return answer
    }
    Object.assign(client, { query: committing })
    expect(await relay.poll()).toEqual(['late@1'])
    expect(relay.gaps).toEqual([])
  })

  test('comes in order with what followed it, in one batch', async () => {
    await using slow = await outbox.writer()
    await using quick = await outbox.writer()
    await slow.sql('begin')
    await slow.insert({ aggregateId: 'a', version: 1 })
    await quick.insert({ aggregateId: 'other', version: 1 })
    await relay.poll()
    await slow.sql('commit')
    await quick.insert({ aggregateId: 'a', version: 2 })
    expect(await relay.poll()).toEqual(['a@1', 'a@2'])
  })
})

describe('a position that nobody will ever fill', () => {
  test('closes after a rollback', async () => {
    await using slow = await outbox.writer()
    await using quick = await outbox.writer()
    await slow.sql('begin')
    await slow.insert({ aggregateId: 'never', version: 1 }, { aggregateId: 'never', version: 2 })
    await quick.insert({ aggregateId: 'early', version: 1 })
    await relay.poll()
    await relay.poll()
    expect(relay.gaps).toEqual([[base + 1n, base + 2n]])
    await slow.sql('rollback')
    await relay.poll()
    expect(relay.gaps).toEqual([])
    expect(relay.read).toEqual(['early@1'])
  })

  test('closes after a savepoint was rolled back, and what its transaction kept still comes', async () => {
    await using slow = await outbox.writer()
    await using quick = await outbox.writer()
    await slow.sql('begin')
    await slow.insert({ aggregateId: 'kept', version: 1 })
    await slow.sql('savepoint s')
    await slow.insert({ aggregateId: 'never', version: 1 })
    await slow.sql('rollback to savepoint s')
    await slow.insert({ aggregateId: 'kept', version: 2 })
    await quick.insert({ aggregateId: 'early', version: 1 })
    for (let n = 0; n < 3; n += 1) await relay.poll()
    expect(relay.gaps).toEqual([[base + 1n, base + 3n]])
    await slow.sql('commit')
    expect(await relay.poll()).toEqual(['kept@1', 'kept@2'])
    await settle()
    expect(relay.read).toEqual(['early@1', 'kept@1', 'kept@2'])
  })

  test('stays open while only a savepoint of its transaction holds the lock', async () => {
    await using slow = await outbox.writer()
    await using quick = await outbox.writer()
    await slow.sql('begin; savepoint s')
    await slow.insert({ aggregateId: 'late', version: 1 })
    await slow.sql('release savepoint s')
    await quick.insert({ aggregateId: 'early', version: 1 })
    for (let n = 0; n < 3; n += 1) await relay.poll()
    expect(relay.gaps).toEqual([[base + 1n, base + 1n]])
    await slow.sql('commit')
    expect(await relay.poll()).toEqual(['late@1'])
  })

  test('closes although a transaction that came later is still writing', async () => {
    await using slow = await outbox.writer()
    await using quick = await outbox.writer()
    await using later = await outbox.writer()
    await slow.sql('begin')
    await slow.insert({ aggregateId: 'never', version: 1 })
    await quick.insert({ aggregateId: 'early', version: 1 })
    await relay.poll()
    await relay.poll()
    await later.sql('begin')
    await later.insert({ aggregateId: 'later', version: 1 })
    await slow.sql('rollback')
    await relay.poll()
    expect(relay.gaps).toEqual([])
    await later.sql('commit')
    expect(await relay.poll()).toEqual(['later@1'])
  })

  test('closes although an unrelated transaction is open throughout', async () => {
    await using unrelated = await outbox.superuser()
    await unrelated.sql('begin; create temporary table t (a int); insert into t values (1)')
    await unrelated.sql('select count(*) from outbox.events')
    await using slow = await outbox.writer()
    await using quick = await outbox.writer()
    await slow.sql('begin')
    await slow.insert({ aggregateId: 'never', version: 1 })
    await quick.insert({ aggregateId: 'early', version: 1 })
    expect(await relay.poll()).toEqual(['early@1'])
    await slow.sql('rollback')
    await settle()
    await unrelated.sql('rollback')
  })
})

test('a transfer that got its number first and its second account last is in version order', async () => {
  await using first = await outbox.writer()
  await using second = await outbox.writer()
  const lock = (account: string) => `select pg_advisory_xact_lock(hashtext('${account}'))`
  // `first` has the lower transaction id, writes a@1, and waits for b, which `second` holds.
  await first.sql('begin; select pg_current_xact_id()')
  await second.sql('begin; select pg_current_xact_id()')
  await second.sql(lock('b'))
  await first.sql(lock('a'))
  const waiting = first.sql(lock('b'))
  await second.insert({ aggregateId: 'b', version: 1 })
  await second.sql('commit')
  await waiting
  await first.insert({ aggregateId: 'a', version: 1 }, { aggregateId: 'b', version: 2 })
  await first.sql('commit')
  expect(await relay.poll()).toEqual(['b@1', 'a@1', 'b@2'])
})

test('a multi-row insert that is half of a gap comes whole', async () => {
  await using slow = await outbox.writer()
  await using quick = await outbox.writer()
  await slow.sql('begin')
  await slow.insert({ aggregateId: 'm', version: 1 })
  await quick.insert({ aggregateId: 'q', version: 1 })
  await slow.insert({ aggregateId: 'm', version: 2 }, { aggregateId: 'm', version: 3 })
  await quick.insert({ aggregateId: 'q', version: 2 })
  expect(await relay.poll()).toEqual(['q@1', 'q@2'])
  expect(relay.gaps).toEqual([
    [base + 1n, base + 1n],
    [base + 3n, base + 4n],
  ])
  await slow.sql('commit')
  expect(await relay.poll()).toEqual(['m@1', 'm@2', 'm@3'])
})

describe('a statement that stops at a limit', () => {
  test('inside a gap closes nothing beyond its last row, and leaves the tail where it was', async () => {
    relay = new ReadingRelay(session, { rows: 2 }, relay.progress)
    await using slow = await outbox.writer()
    await using other = await outbox.writer()
    await using quick = await outbox.writer()
    await slow.sql('begin')
    await slow.insert({ aggregateId: 's', version: 1 }, { aggregateId: 's', version: 2 })
    await slow.insert({ aggregateId: 's', version: 3 })
    await quick.insert({ aggregateId: 'q', version: 1 })
    await other.sql('begin')
    await other.insert({ aggregateId: 'o', version: 1 })
    await quick.insert({ aggregateId: 'q', version: 2 })
    expect(await relay.poll()).toEqual(['q@1', 'q@2'])
    await slow.sql('commit')
    await other.sql('commit')
    await quick.insert({ aggregateId: 's', version: 4 })
    expect(await relay.poll()).toEqual(['s@1', 's@2'])
    expect(relay.gaps).toEqual([
      [base + 3n, base + 3n],
      [base + 5n, base + 5n],
    ])
    expect(await relay.poll()).toEqual(['s@3', 'o@1'])
    expect(await relay.poll()).toEqual(['s@4'])
    await settle()
  })

  test('of bytes returns at least one row, and every row in the end', async () => {
    relay = new ReadingRelay(session, { payloadBytes: 1_000 }, relay.progress)
    await using writer = await outbox.writer()
    const large = JSON.stringify('x'.repeat(3_000))
    const small = JSON.stringify('ü'.repeat(200))
    await writer.insert(
      { aggregateId: 'l', version: 1, payload: large },
      { aggregateId: 'l', version: 2, payload: small },
      { aggregateId: 'l', version: 3, payload: small },
      { aggregateId: 'l', version: 4, payload: small },
      { aggregateId: 'l', version: 5, payload: small },
    )
    expect(await relay.poll()).toEqual(['l@1'])
    expect(await relay.poll()).toEqual(['l@2', 'l@3', 'l@4'])
    expect(await relay.poll()).toEqual(['l@5'])
  })

  test('of open gaps leaves the tail alone until some close', async () => {
    relay = new ReadingRelay(session, { openGaps: 1 }, relay.progress)
    await using slow = await outbox.writer()
    await using quick = await outbox.writer()
    await slow.sql('begin')
    for (const version of [1, 2]) {
      await slow.insert({ aggregateId: 's', version })
      await quick.insert({ aggregateId: 'q', version })
    }
    await relay.poll()
    expect(relay.gaps).toHaveLength(2)
    await quick.insert({ aggregateId: 'q', version: 3 })
    expect(await relay.poll()).toEqual([])
    await slow.sql('commit')
    expect(await relay.poll()).toEqual(['s@1', 's@2'])
    expect(await relay.poll()).toEqual(['q@3'])
  })
})

describe('a prepared transaction', () => {
  test('holds its gap open, across a reconnect too, until it commits', async () => {
    // Names of prepared transactions belong to the whole server.
    const name = `outbox-${randomUUID()}`
    await using writer = await outbox.writer()
    await using quick = await outbox.writer()
    await using cleanup = new AsyncDisposableStack()
    await writer.sql('begin')
    await writer.insert({ aggregateId: 'p', version: 1 })
    await quick.insert({ aggregateId: 'q', version: 1 })
    await relay.poll()
    await relay.poll()
    await writer.sql(`prepare transaction '${name}'`)
    cleanup.defer(() => quick.sql(`rollback prepared '${name}'`))
    for (let n = 0; n < 3; n += 1) expect(await relay.poll()).toEqual([])
    await using another = await readingSession(outbox.relayUrl)
    relay.reconnect(another)
    for (let n = 0; n < 3; n += 1) expect(await relay.poll()).toEqual([])
    expect(relay.gaps).toEqual([[base + 1n, base + 1n]])
    cleanup.move()
    await writer.sql(`commit prepared '${name}'`)
    expect(await relay.poll()).toEqual(['p@1'])
    await settle()
  })
})

describe('progress that another session made', () => {
  test('keeps no holders: a gap is looked at anew before it closes', async () => {
    await using slow = await outbox.writer()
    await using quick = await outbox.writer()
    await slow.sql('begin')
    await slow.insert({ aggregateId: 'late', version: 1 })
    await quick.insert({ aggregateId: 'early', version: 1 })
    await relay.poll()
    // As a restart of the server leaves it: the names that were held mean nothing now.
    const stale = relay.progress.gaps.map((gap) => ({ ...gap, holders: new Set(['-1/999999']) }))
    relay.progress = { ...relay.progress, gaps: stale }
    await using another = await readingSession(outbox.relayUrl)
    relay.reconnect(another)
    for (let n = 0; n < 3; n += 1) expect(await relay.poll()).toEqual([])
    expect(relay.gaps).toEqual([[base + 1n, base + 1n]])
    await slow.sql('commit')
    expect(await relay.poll()).toEqual(['late@1'])
  })

  test('is continued from what was saved', async () => {
    await using writer = await outbox.writer()
    const [one = 0n, , three = 0n] = await writer.insert(
      { aggregateId: 'c', version: 1 },
      { aggregateId: 'c', version: 2 },
      { aggregateId: 'c', version: 3 },
    )
    relay.progress = progressFrom(three, [[one, one]])
    expect(await relay.poll()).toEqual(['c@1', 'c@3'])
  })
})

test('the statement stays an index scan of the partitions it needs, under its generic plan', async () => {
  await using writer = await outbox.writer()
  for (let version = 1; version <= 3; version += 1) {
    await writer.insert(...Array.from({ length: 500 }, () => ({ aggregateId: 'bulk', version })))
  }
  await relay.poll()
  const { rows } = await session.client.query<{ 'QUERY PLAN': string }>(
    `explain execute "relay-read" (10000001, '{${base}}', '{${base}}', 1000, 1000, 8000000)`,
  )
  const plan = rows.map((row) => row['QUERY PLAN']).join('\n')
  expect(plan).not.toMatch(/Seq Scan|Bitmap/)
  expect(plan).toMatch(/Index Scan using events_\d+_pkey on events_\d+/)
  expect(plan).not.toMatch(/Merge Append[^]*Merge Append/)
  expect(plan).toMatch(/Limit[^]*Append[^]*Subplans Removed: 1\n[^]*"position" >= \$1/)
})

test('values come as PostgreSQL writes them: no digit, no space and no microsecond is lost', async () => {
  await using superuser = await outbox.superuser()
  await superuser.sql(`insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion,
      type, payload, source, specversion, traceparent, correlationid, causationid, occurred_at)
    values ('0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10', 'account', 'exact', 9223372036854775807, 'T.v1',
      '{"b":1,"a": 1.10}', 's', '1.0', 't', 'c', 'd', '2026-11-21 09:00:00.12+01')`)
  const { openCursor } = await import('./cursor.ts')
  const { rows } = await openCursor(session.client).read(relay.progress)
  expect(rows).toEqual([
    [
      String(base + 1n),
      '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10',
      'account',
      'exact',
      '9223372036854775807',
      'T.v1',
      '2026-11-21T08:00:00.120000Z',
      's',
      '1.0',
      'c',
      'd',
      't',
      '{"b":1,"a": 1.10}',
    ],
  ])
})
