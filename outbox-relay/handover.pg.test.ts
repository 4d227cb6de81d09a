import { randomInt } from 'node:crypto'
import { waitUntil } from 'local-stack/wait-until'
import { openPool, type Pool } from 'migrations/database'
import { describe, expect, test } from 'vitest'
import { openCursor, defaultLimits } from './cursor.ts'
import { WayToConnector } from './debezium/connector-entry.ts'
import { willingConnect } from './debezium/test-willing-connect.ts'
import { Handover, handsOver, holdersEnded, type Way } from './handover.ts'
import type { Names } from './names.ts'
import {
  connect,
  ReadingRelay,
  readingSession,
  type Session,
  testNames,
  testOutbox,
} from './test-outbox.ts'
import { PgoutputDecoder } from './wal/pgoutput.ts'
import { readLog } from './wal/test-log-reader.ts'
import { ownServer } from './wal/test-own-server.ts'
import { besideWriters, eventsInNeither } from './wal/test-slot-creation.ts'
import { type Entered, wayToLog } from './wal/wal-entry.ts'

const embedded = process.env.TEST_STACK !== 'containers'
const local = { synchronous_commit: 'local', timezone: 'UTC' }

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

// A slot is made in steps, each of which waits for those who ran at the one before; whoever began
// after the last of them is not waited for. A standby that does not answer holds such a commit between
// its record, which is before the slot's point, and its being visible, which is after.

async function openHeldCommit(url: string) {
  await using cleanup = new AsyncDisposableStack()
  const open = async (settings = {}) => cleanup.use(await connect(url, settings))
  const [admin, first, second, held] = [await open(local), await open(), await open(), await open()]
  const standby = async (name: string) => {
    await admin.sql(`alter system set synchronous_standby_names = '${name}'`)
    await admin.sql('select pg_reload_conf()')
  }
  // Whoever is held would keep its connection open.
  cleanup.defer(() => standby(''))
  await standby('nobody')
  await waitUntil(
    async () => {
      const { rows } = await held.client.query<{ synchronous_standby_names: string }>(
        'show synchronous_standby_names',
      )
      return rows[0]?.synchronous_standby_names === 'nobody'
    },
    { what: 'the standby to be set' },
  )
  const firstXid = await begin(first)
  let committing: Promise<bigint[]> | undefined
  const moved = cleanup.move()
  return {
    admin,
    /** To be called while a slot is being made; it is made when this has returned. */
    async hold(): Promise<void> {
      await awaited(admin, firstXid)
      const secondXid = await begin(second)
      await first.sql('rollback')
      await awaited(admin, secondXid)
      committing = held.insert({ aggregateId: 'held', version: 1 })
      const isHeld = async () => {
        const { rows } = await admin.client.query(
          "select 1 from pg_stat_activity where wait_event = 'SyncRep'",
        )
        return rows.length > 0
      }
      await waitUntil(isHeld, { what: 'the commit to be held' })
      await second.sql('rollback')
    },
    /** Its position, once it is visible. */
    async release(): Promise<bigint> {
      await standby('')
      const [position = 0n] = (await committing) ?? []
      return position
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  }
}

type Place = { url: string; db: Pool; names: Names }
type Entrance<Made> = {
  way: (place: Place) => Way<Made>
  /** What the slot brings, up to this position. */
  brings: (made: Made, last: bigint, admin: Session) => Promise<bigint[]>
}

const log: Entrance<Entered> = {
  way: wayToLog,
  async brings(entered, last) {
    const reading = readLog(entered)
    await reading.until(last)
    await entered.session[Symbol.asyncDispose]()
    return reading.positions()
  },
}

type Worker = Awaited<ReturnType<typeof willingConnect>>

const connectorBy = ({ url: connectUrl, limitBytes }: Worker): Entrance<Names> => ({
  way: ({ url: cdcUrl, ...place }) =>
    new WayToConnector({ ...place, cdcUrl, connectUrl, limitBytes }),
  async brings({ slot }, last, { client }) {
    const { rows } = await client.query<{ data: Buffer }>(
      `select data from pg_logical_slot_peek_binary_changes($1, null, null, 'proto_version', '1',
          'publication_names', 'sluice_outbox')`,
      [slot],
    )
    const decoder = new PgoutputDecoder()
    const decoded = rows.map(({ data }) => decoder.decode(data))
    const found = decoded.flatMap((each) => (each.kind === 'row' ? [BigInt(each.row[0])] : []))
    expect(found).toContain(last)
    return found
  },
})

/** Polls as a relay does on the way into a mode, with a commit held while the slot is made. */
async function entersBesideHeldCommit<Made>({ way, brings }: Entrance<Made>): Promise<void> {
  await using server = await ownServer()
  const { url } = server
  const onError = () => {} // The statement that was running reports it.
  await using db = openPool({ url, applicationName: 'test-relay', maxConnections: 4, onError })
  await using reading = await readingSession(url)
  await using commit = await openHeldCommit(url)
  const waitedFor: string[] = []
  await using handover = new Handover({
    way: way({ url, db, names: await testNames({ pool: db }, '1') }),
    db,
    step: async () => {},
    waiting: (why, whose) => void waitedFor.push(`${why}: ${whose ?? ''}`),
    signal: new AbortController().signal,
  })
  const relay = new ReadingRelay(reading)
  const covered = async () => handover.covers(await relay.batch())
  expect(await covered()).toBe(false)
  await commit.hold()

  // Told once the slot is there, and nothing else is left to wait for.
  const told = () => waitedFor.some((each) => /^transactions that wrote .*: 1 open/.test(each))
  const early = await waitUntil(
    async () => ((await covered()) && 'covered') || (told() && 'told'),
    {
      what: 'the holder to be told',
    },
  )
  // What makes this test see: the table as it is now lacks the event, and so does the slot.
  expect({ early, sent: relay.read }).toEqual({ early: 'told', sent: [] })
  expect(await covered()).toBe(false)
  await commit.release()
  await waitUntil(covered, { what: 'the handover' })
  expect(relay.read).toEqual(['held@1'])
  const [later = 0n] = await commit.admin.insert({ aggregateId: 'later', version: 1 })
  expect(await brings(handover.take(), later, commit.admin)).toEqual([later])
}

describe.skipIf(!embedded)('a commit that is written before the slot and visible after it', () => {
  test('is not in the log from there: polling sends it before the log is read', async () => {
    await entersBesideHeldCommit(log)
  }, 60_000)

  test('is not in what a connector reads: polling sends it before the connector begins', async () => {
    await using worker = await willingConnect()
    await entersBesideHeldCommit(connectorBy(worker))
  }, 60_000)
})

test('fifteen slots made under 24 writers: every event is in the table or in the stream', async () => {
  await using outbox = await testOutbox()
  const url = outbox.superuserUrl
  const seed = randomInt(1_000_000_000)
  const lost = await besideWriters({ url, writers: 24, seed }, () =>
    eventsInNeither({ url, creations: 15, enters: 'handover' }),
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
