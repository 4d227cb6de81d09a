import { waitUntil } from 'local-stack/wait-until'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openCursor } from '../cursor.ts'
import { Handover } from '../handover.ts'
import { afterProof, afterPublishing, progressFrom } from '../progress.ts'
import { dropSlots, withCdc } from '../slots.ts'
import {
  readingSession,
  type Session,
  testNames,
  type TestOutbox,
  testOutbox,
} from '../test-outbox.ts'
import { formatLsn } from './lsn.ts'
import { ReplicationSession } from './replication-session.ts'
import { readSlot } from './slot.ts'
import { openProxy, through } from './test-proxy.ts'
import { openSlot, readLog } from './test-log-reader.ts'
import { slotNames } from './test-wal-relay.ts'
import { wayToLog } from './wal-entry.ts'

let outbox: TestOutbox
let superuser: Session
beforeEach(async () => {
  outbox = await testOutbox()
  superuser = await outbox.superuser()
})
afterEach(async () => {
  // Held by a walsender for a moment longer than by its session.
  await waitUntil(async () => (await slotNames(superuser)).length === 0, { what: 'no slots' })
  await superuser[Symbol.asyncDispose]()
  await outbox[Symbol.asyncDispose]()
})

// Slots belong to the server, so those of other tests have other names.
const epochFrom = () => Number.parseInt(new URL(outbox.cdcUrl).pathname.slice(-10), 16)

test('a connection on which the server has gone silent is noticed, though it stays open', async () => {
  await using proxy = await openProxy(Number(new URL(outbox.cdcUrl).port))
  const url = through(outbox.cdcUrl, proxy.port)
  const opened = await openSlot(url, `silent_${epochFrom()}`, { silenceMs: 2_500 })
  const log = readLog(opened)
  const [position = 0n] = await superuser.insert({ aggregateId: 'a', version: 1 })
  await log.until(position)
  proxy.silence()
  expect(await log.ended).toMatchObject({
    code: 'stream_lost',
    message: expect.stringMatching(/the server has said nothing for \d+ ms/),
  })
  await opened.session[Symbol.asyncDispose]()
})

test('a session that reads nothing for a while, of its own will, is not taken for a dead one', async () => {
  const opened = await openSlot(outbox.cdcUrl, `paused_${epochFrom()}`, { silenceMs: 1_500 })
  const log = readLog(opened)
  const begun = performance.now()
  opened.session.pause()
  const [position = 0n] = await superuser.insert({ aggregateId: 'a', version: 1 })
  await waitUntil(() => performance.now() - begun > 3_000, { what: 'the limit to pass' })
  opened.session.resume()
  await log.until(position)
  await opened.session[Symbol.asyncDispose]()
  expect(await log.ended).toMatchObject({ code: 'stream_lost' })
})

test('the server is told how far it may forget', async () => {
  const name = `told_${epochFrom()}`
  const opened = await openSlot(outbox.cdcUrl, name)
  const log = readLog(opened)
  const [position = 0n] = await superuser.insert({ aggregateId: 'a', version: 1 })
  await log.until(position)
  expect(log.settled()).toBeGreaterThan(opened.slot.consistentPoint)
  const moved = async () => {
    const slot = await readSlot(outbox.pool, name)
    const { rows } = await superuser.client.query<{ moved: boolean }>(
      'select $1::pg_lsn >= $2::pg_lsn as moved',
      [slot?.confirmedFlush ?? '0/0', formatLsn(log.settled())],
    )
    return rows[0]?.moved
  }
  await waitUntil(moved, { what: 'the slot to move' })
  await opened.session[Symbol.asyncDispose]()
})

describe('a leader that begins', () => {
  test('ends the slots of earlier leaders, used or not, and leaves those of later ones', async () => {
    const names = await testNames(outbox, '7')
    const nameOf = async (epoch: number) => (await testNames(outbox, String(epoch))).walSlot
    await using earlier = (await openSlot(outbox.cdcUrl, await nameOf(6))).session
    await using later = (await openSlot(outbox.cdcUrl, await nameOf(8))).session
    const other = `other_${names.database}_5`
    for (const name of [`sluice_debezium_${names.database}_5`, other]) {
      await superuser.sql(`select pg_create_logical_replication_slot('${name}', 'pgoutput')`)
    }
    const { signal } = new AbortController()
    await withCdc({ url: outbox.cdcUrl, names, signal }, (client) =>
      dropSlots(client, { names, upTo: 7n, endUse: true }),
    )
    expect(await slotNames(superuser)).toEqual([other, await nameOf(8)])
    await expect(earlier.createSlot('x')).rejects.toThrow(/./)
    await later[Symbol.asyncDispose]()
    await superuser.sql(`select pg_drop_replication_slot('${other}')`)
  })

  const handoverOf = async (waiting: (why: string) => void, step = async () => {}) => {
    const names = await testNames(outbox, '7')
    const place = { url: outbox.cdcUrl, db: outbox.pool, names }
    const { signal } = new AbortController()
    return new Handover({ way: wayToLog(place), db: outbox.pool, step, waiting, signal })
  }

  test('enters the log by a slot of its own, which it makes once polling has caught up', async () => {
    await using reading = await readingSession(outbox.relayUrl)
    await using writer = await outbox.writer()
    const cursor = openCursor(reading.client)
    const waits: string[] = []
    await using handover = await handoverOf((why) => waits.push(why))
    const read = async () => handover.covers(await cursor.read({ next: 1n, gaps: [] }))
    expect(await read()).toBe(false)
    await waitUntil(async () => (await slotNames(superuser)).length === 1, { what: 'a slot' })
    await waitUntil(read, { what: 'the handover' })
    const { session, slot } = handover.take()
    const log = readLog({ session, slot })
    const [position = 0n] = await writer.insert({ aggregateId: 'a', version: 1 })
    await log.until(position)
    await session[Symbol.asyncDispose]()
    expect(waits[0]).toBe('polling has not caught up yet')
    expect(waits[1]).toMatch(/a slot is being made/)
  })

  test('that does not hold its lease any more makes no slot', async () => {
    await using reading = await readingSession(outbox.relayUrl)
    const waits: string[] = []
    const notHeld = async () => {
      throw new Error('the lease is lost')
    }
    await using handover = await handoverOf((why) => waits.push(why), notHeld)
    handover.covers(await openCursor(reading.client).read({ next: 1n, gaps: [] }))
    await waitUntil(() => waits.length > 0, { what: 'it to be told' })
    expect(waits[0]).toMatch(/the lease is lost/)
    expect(await slotNames(superuser)).toEqual([])
  })
})

describe('a gap of the log', () => {
  test('closes when its transaction was rolled back, and not while it is open or to come', async () => {
    await using reading = await readingSession(outbox.relayUrl)
    await using open = await outbox.writer()
    const cursor = openCursor(reading.client)
    await open.sql('begin')
    await open.insert({ aggregateId: 'open', version: 1 })
    await superuser.sql('begin')
    await superuser.insert({ aggregateId: 'rolled-back', version: 1 })
    await superuser.sql('rollback')
    await superuser.insert({ aggregateId: 'not decoded yet', version: 1 })
    await superuser.insert({ aggregateId: 'decoded', version: 1 })
    let progress = afterPublishing(progressFrom(1n, []), [4n])
    const prove = async () => {
      const proof = await cursor.proveGaps(progress)
      progress = afterProof(progress, proof)
      return proof.dead
    }
    // Whoever held the lock when the gap was looked at may be the one that fills it.
    expect(await prove()).toEqual([])
    expect(await prove()).toEqual([])
    await open.sql('rollback')
    expect(await prove()).toEqual([{ first: 1n, last: 2n }])
    expect(progress.gaps.map(({ first, last }) => [first, last])).toEqual([[3n, 3n]])
    expect(await prove()).toEqual([])
    progress = afterPublishing(progress, [3n])
    expect(progress).toEqual({ next: 5n, gaps: [] })
  })
})

test('a session that ends while its slot is being made leaves none, though the wait goes on', async () => {
  await using writer = await outbox.writer()
  await writer.sql('begin')
  await writer.insert({ aggregateId: 'long', version: 1 })
  const session = await ReplicationSession.open(outbox.cdcUrl)
  const making = session.createSlot(`making_${epochFrom()}`)
  making.catch(() => {})
  await waitUntil(async () => (await slotNames(superuser)).length === 1, { what: 'the slot' })
  await session[Symbol.asyncDispose]()
  await waitUntil(async () => (await slotNames(superuser)).length === 0, {
    what: 'the slot to go with its connection',
    deadlineMs: 15_000,
  })
  await writer.sql('rollback')
})
