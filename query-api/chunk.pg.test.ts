import { randomUUID } from 'node:crypto'
import { heartbeatIds, heartbeatType } from 'command-api/events'
import { testDatabases } from 'local-stack/test-databases'
import type { OutboxRow } from 'outbox-relay/wire'
import { afterAll, expect, test } from 'vitest'
import { accounts } from './projections/accounts.ts'
import { applyChunk } from './chunk.ts'
import { readOffsets } from './offsets.ts'
import {
  consumed,
  eventRow,
  historyOf,
  interleave,
  outboxRow,
  timeOf,
  unstorableBalance,
} from './test-events.ts'
import { openProjectorPool } from './test-pools.ts'
import { inTransaction } from './transaction.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(openProjectorPool(databases))
afterAll(() => cleanup.disposeAsync())

/** One partition of a topic of its own, with what was sent to it. */
function newLog(...rows: OutboxRow[]) {
  const topic = `topic-${randomUUID()}`
  const topicId = randomUUID()
  return {
    topicId,
    rows,
    chunk: (from: number, end = rows.length) => ({
      topic,
      partition: 0,
      fetchOffset: BigInt(from),
      records: rows.slice(from, end).map((row, index) => consumed(row, BigInt(from + index))),
    }),
    next: async () => (await readOffsets(pool, { projection: 'accounts', topic }))[0]?.next,
  }
}

type Log = ReturnType<typeof newLog>

const apply = (log: Log, from: number, { end }: { end?: number } = {}) =>
  applyChunk({ pool, projection: accounts, topicId: log.topicId }, log.chunk(from, end))

async function versionOf(account: string): Promise<number> {
  const { rows } = await pool.query<{ version: string }>(
    'select version from read.accounts where id = $1',
    [account],
  )
  return Number(rows[0]?.version ?? 0)
}

test('a chunk moves the offset with what it applied', async () => {
  const log = newLog(...historyOf('moves', 6))
  expect(await apply(log, 0, { end: 4 })).toMatchObject({ kind: 'applied', next: 4n, applied: 4 })
  expect(await log.next()).toBe(4n)
  expect(await apply(log, 4)).toMatchObject({ kind: 'applied', next: 6n, applied: 2 })
  expect([await log.next(), await versionOf('moves')]).toEqual([6n, 6])
})

test('offsets of a topic made anew are not taken for those of the old one', async () => {
  const log = newLog(...historyOf('anew', 2))
  await apply(log, 0)
  const outcome = await apply({ ...log, topicId: randomUUID() }, 2)
  expect(outcome).toMatchObject({ kind: 'moved', stored: { topicId: log.topicId } })
})

async function entryOf(account: string) {
  const { rows } = await pool.query<Record<string, string | number>>(
    `select code, detail, wanted::int, seen::int, highest::int, partition, record_offset::int as at
      from read.quarantine where account_id = $1`,
    [account],
  )
  return rows[0]
}

test('a gap puts its account into quarantine, and everything else is applied', async () => {
  const history = historyOf('gap', 5)
  const log = newLog(history[0]!, history[1]!, history[3]!, eventRow('after-gap', 1), history[4]!)
  expect(await apply(log, 0, { end: 4 })).toMatchObject({ next: 4n, applied: 3, held: 1 })
  expect([await versionOf('gap'), await versionOf('after-gap')]).toEqual([2, 1])
  const entry = { code: 'version_gap', wanted: 3, seen: 4, partition: 0, at: 2 }
  expect(await entryOf('gap')).toMatchObject({ ...entry, highest: 4 })
  expect(await apply(log, 4)).toMatchObject({ next: 5n, applied: 0, held: 1, quarantined: [] })
  expect(await entryOf('gap')).toMatchObject({ ...entry, highest: 5 })
  expect([await log.next(), await versionOf('gap')]).toEqual([5n, 2])
})

test('a changed history puts its account into quarantine as a conflict', async () => {
  const log = newLog(...historyOf('changed', 2), eventRow('changed', 2, { amount: '11' }))
  expect(await apply(log, 0)).toMatchObject({ next: 3n, applied: 2, held: 1 })
  expect(await entryOf('changed')).toMatchObject({ code: 'version_conflict', seen: 2, at: 2 })
})

test('a record that cannot be read holds up its account alone', async () => {
  const unknown = eventRow('unread', 3, { type: 'Tomorrow.v9' })
  const log = newLog(
    ...historyOf('unread', 2),
    unknown,
    eventRow('unread', 4),
    eventRow('other', 1),
  )
  expect(await apply(log, 0)).toMatchObject({ next: 5n, applied: 3, held: 2 })
  expect([await versionOf('unread'), await versionOf('other')]).toEqual([2, 1])
  const entry = { code: 'unknown_event_type', wanted: 3, seen: 3, highest: 4, at: 2 }
  expect(await entryOf('unread')).toMatchObject(entry)
})

test('a record that does not even say whose it is waits under its own place', async () => {
  const log = newLog(eventRow('before-nobody', 1), eventRow('nobody', 1))
  const { records, ...chunk } = log.chunk(0)
  const settings = { pool, projection: accounts, topicId: log.topicId }
  const nameless = [records[0]!, { ...records[1]!, key: null }]
  expect(await applyChunk(settings, { ...chunk, records: nameless })).toMatchObject({
    next: 2n,
    applied: 1,
    quarantined: [{ account: 'record-0@1', code: 'record_malformed' }],
  })
})

test('an unreadable record of a version applied long ago is a repetition', async () => {
  const log = newLog(
    ...historyOf('old-unread', 3),
    eventRow('old-unread', 2, { type: 'Tomorrow.v9' }),
    eventRow('old-unread', 4),
  )
  await apply(log, 0, { end: 3 })
  expect(await apply(log, 3)).toMatchObject({ next: 5n, applied: 1, duplicates: 1, held: 0 })
})

test('of a chunk with events that the database refuses, only their accounts wait', async () => {
  const ids = Array.from({ length: 50 }, (_, index) => `poisoned-${index}`)
  const bad = new Set(['poisoned-7', 'poisoned-33'])
  const rows = interleave(
    ids.map((id) =>
      historyOf(id, 6).map((row, index) =>
        bad.has(id) && index >= 3 ? eventRow(id, index + 1, { balance: unstorableBalance }) : row,
      ),
    ),
  )
  const log = newLog(...rows)
  const outcome = await apply(log, 0)
  expect(outcome).toMatchObject({ next: 300n, applied: 48 * 6 + 2 * 3, held: 6 })
  for (const id of ids) expect(await versionOf(id)).toBe(bad.has(id) ? 3 : 6)
  expect(await entryOf('poisoned-7')).toMatchObject({
    code: 'apply_failed',
    wanted: 4,
    seen: 4,
    highest: 6,
    detail: 'version 4 of account poisoned-7 cannot be stored: SQLSTATE 22003',
  })
})

test('records missing at the start or in the middle stop before what follows them', async () => {
  const log = newLog(...historyOf('missing', 6))
  const atStart = { ...log.chunk(2), fetchOffset: 0n }
  const settings = { pool, projection: accounts, topicId: log.topicId }
  expect(await applyChunk(settings, atStart)).toMatchObject({
    next: 0n,
    applied: 0,
    stop: { code: 'records_missing', offset: 0n },
  })
  const { records, ...chunk } = log.chunk(0)
  const outcome = await applyChunk(settings, { ...chunk, records: records.toSpliced(3, 1) })
  expect(outcome).toMatchObject({ next: 3n, applied: 3, stop: { code: 'records_missing' } })
})

test('a heartbeat is noted, the newest of its partition, and no account is touched', async () => {
  const beat = (version: number) =>
    outboxRow({
      account: heartbeatIds[0]!,
      version,
      type: heartbeatType,
      at: timeOf(version),
      payload: { at: timeOf(version) },
    })
  const log = newLog(beat(1), beat(2), eventRow('beside-heartbeat', 1), beat(1))
  const noted = async () => {
    const { rows } = await pool.query<{ occurred_at: Date }>(
      `select occurred_at from read.heartbeats where projection = 'accounts' and partition = 0`,
    )
    return rows[0]?.occurred_at
  }
  expect(await apply(log, 0, { end: 3 })).toMatchObject({ heartbeats: 2, applied: 1 })
  expect(await noted()).toEqual(new Date(timeOf(2)))
  await apply(log, 3)
  expect(await noted()).toEqual(new Date(timeOf(2)))
  expect(await versionOf(heartbeatIds[0]!)).toBe(0)
})

test('a connection that does not answer is cut after the deadline, and the pool goes on', async () => {
  const begun = performance.now()
  const silent = inTransaction(pool, 200, (client) => client.query('select pg_sleep(20)'))
  await expect(silent).rejects.toMatchObject({ code: 'transaction_timeout' })
  expect(performance.now() - begun).toBeLessThan(2_000)
  await inTransaction(pool, 5_000, (client) => client.query('select 1'))
  await pool.query(`select pg_terminate_backend(pid) from pg_stat_activity
    where query like '%pg_sleep(20)' and pid <> pg_backend_pid() and usename = current_user`)
})
