import { randomInt } from 'node:crypto'
import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { openCursor, defaultLimits } from './cursor.ts'
import { handsOver, holdersEnded } from './handover.ts'
import { connect, type Session, readingSession, testOutbox } from './test-outbox.ts'
import { ReplicationSession } from './wal/replication-session.ts'
import { readLog } from './wal/test-log-reader.ts'
import { ownServer } from './wal/test-own-server.ts'
import { besideWriters, eventsInNeither } from './wal/test-slot-creation.ts'

const embedded = process.env.TEST_STACK !== 'containers'

/** Resolves when somebody waits for the end of this transaction. */
const awaited = ({ client }: Session, xid: string) =>
  waitUntil(
    async () => {
      const { rows } = await client.query(
        `select 1 from pg_locks where locktype = 'transactionid' and not granted
            and transactionid = $1::xid`,
        [xid],
      )
      return rows.length > 0
    },
    { what: `the slot to wait for transaction ${xid}` },
  )

async function begin({ client }: Session): Promise<string> {
  await client.query('begin')
  const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::xid::text xid')
  return rows[0]?.xid ?? ''
}

const positionsIn = async ({ client }: Session) => {
  const { rows } = await client.query<{ position: string }>('select position from outbox.events')
  return rows.map((row) => BigInt(row.position))
}

// A slot is made in steps, each of which waits for those who ran at the one before; whoever began
// after the last of them is not waited for. A standby that does not answer holds such a commit between
// its record, which is before the slot's point, and its being visible, which is after.
test.skipIf(!embedded)(
  'a commit that is written before the slot and visible after it is in neither, and is waited for',
  async () => {
    await using server = await ownServer()
    const local = { synchronous_commit: 'local' }
    await using admin = await connect(server.url, local)
    await using first = await connect(server.url, local)
    await using second = await connect(server.url, local)
    await using held = await connect(server.url)
    await using session = await ReplicationSession.open(server.url)
    const standby = async (name: string) => {
      await admin.sql(`alter system set synchronous_standby_names = '${name}'`)
      await admin.sql('select pg_reload_conf()')
      await waitUntil(
        async () => {
          const { rows } = await held.client.query<{ synchronous_standby_names: string }>(
            'show synchronous_standby_names',
          )
          return rows[0]?.synchronous_standby_names === name
        },
        { what: 'the standby to be set' },
      )
    }
    await standby('nobody')

    const firstXid = await begin(first)
    const making = session.createSlot('sluice_wal_1')
    await awaited(admin, firstXid)
    const secondXid = await begin(second)
    await first.sql('rollback')
    await awaited(admin, secondXid)
    const inserting = held.insert({ aggregateId: 'held', version: 1 })
    const committing = inserting.then(([position = 0n]) => position)
    const { client } = admin
    const isHeld = async () => {
      const { rows } = await client.query(
        "select 1 from pg_stat_activity where wait_event = 'SyncRep'",
      )
      return rows.length > 0
    }
    await waitUntil(isHeld, { what: 'the commit to be held' })
    await second.sql('rollback')
    const slot = await making

    // What makes this test see: the table as it is now lacks it, and so will the stream.
    expect(await positionsIn(admin)).toEqual([])
    let holders = 0
    const ending = holdersEnded({
      db: client,
      signal: new AbortController().signal,
      waiting: (count) => (holders = count),
    })
    await waitUntil(() => holders === 1, { what: 'the holder to be waited for' })
    await admin.sql("alter system set synchronous_standby_names = ''")
    await admin.sql('select pg_reload_conf()')
    await ending
    const position = await committing
    expect(await positionsIn(admin)).toEqual([position])
    const log = readLog({ session, slot })
    const [later = 0n] = await second.insert({ aggregateId: 'later', version: 1 })
    await log.until(later)
    expect(log.positions()).toEqual([later])
  },
  60_000,
)

test('fifteen slots made under 24 writers: every event is in the table or in the stream', async () => {
  await using outbox = await testOutbox()
  const url = outbox.superuserUrl
  const seed = randomInt(1_000_000_000)
  const lost = await besideWriters({ url, writers: 24, seed }, () =>
    eventsInNeither({ url, slotName: `stress_${seed}`, creations: 15, waits: true }),
  )
  expect(lost, `seed ${seed}`).toEqual(Array.from({ length: 15 }, () => 0))
}, 60_000)

test('a statement that leaves the tail alone, for too many gaps, hands nothing over', async () => {
  await using outbox = await testOutbox()
  await using writer = await outbox.writer()
  await using session = await readingSession(outbox.relayUrl)
  const cursor = openCursor(session.client, { ...defaultLimits, openGaps: 1 })
  for (const aggregateId of ['a', 'b']) {
    await writer.sql('begin')
    await writer.insert({ aggregateId: 'rolled-back', version: 1 })
    await writer.sql('rollback')
    await writer.insert({ aggregateId, version: 1 })
  }
  const first = await cursor.read({ next: 1n, gaps: [] })
  expect(first.after.gaps).toHaveLength(2)
  await writer.insert({ aggregateId: 'tail', version: 1 })
  const ended = performance.now()
  const second = await cursor.read(first.after)
  expect(second.rows).toEqual([])
  expect(handsOver(second, ended)).toBe(false)
  const third = await cursor.read(second.after)
  expect(third.rows).toHaveLength(1)
  expect(handsOver(third, ended)).toBe(true)
  expect(handsOver(third, performance.now())).toBe(false)
})

test('a handover that is called off ends, and one without holders is over at once', async () => {
  await using outbox = await testOutbox()
  await using writer = await outbox.writer()
  await writer.sql('begin')
  await writer.insert({ aggregateId: 'open', version: 1 })
  const off = new AbortController()
  const waiting = () => off.abort(new Error('called off'))
  const called = holdersEnded({ db: outbox.pool, signal: off.signal, waiting })
  await expect(called).rejects.toThrow('called off')
  await writer.sql('rollback')
  await holdersEnded({ db: outbox.pool, signal: new AbortController().signal, waiting: () => {} })
})
