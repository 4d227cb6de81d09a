import { testBrokers } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type TestOutbox, testOutbox } from '../test-outbox.ts'
import {
  auditOf,
  complete,
  drained,
  metric,
  openWalTest,
  slotNames,
  streaming,
  type WalTest,
  writeHistory,
} from './test-wal-relay.ts'

const brokers = testBrokers()
let outbox: TestOutbox
let wal: WalTest

beforeEach(async () => {
  outbox = await testOutbox()
  const { relayUrl, cdcUrl, superuserUrl } = outbox
  wal = await openWalTest({ brokers, relayUrl, cdcUrl, superuserUrl })
})
afterEach(() => outbox[Symbol.asyncDispose]())

test('rows before and after the handover arrive once each, and progress follows', async () => {
  const { aggregateType } = wal
  await using writer = await outbox.writer()
  await writer.insert({ aggregateType, aggregateId: 'a', version: 1 })
  await using relay = await wal.relay()
  await streaming(relay)
  await writer.insert(
    { aggregateType, aggregateId: 'a', version: 2 },
    { aggregateType, aggregateId: 'b', version: 1 },
  )
  await writer.sql('begin')
  await writer.insert({ aggregateType, aggregateId: 'c', version: 1 })
  await writer.sql('rollback')
  await writer.insert({ aggregateType, aggregateId: 'a', version: 3 })
  await drained(relay, writer)
  expect((await relay.status()).source).toBe('wal')
  const dump = await wal.dump()
  expect(dump.map(({ key, headers }) => `${key} ${headers[2]?.[1]}`).toSorted()).toEqual([
    'a 1',
    'a 2',
    'a 3',
    'b 1',
  ])
})

test('asked to stop while rows come: what is in flight is saved, the slot goes, exit code 0', async () => {
  const { aggregateType } = wal
  await using writer = await wal.superuser()
  await using first = await wal.relay({ RELAY_BATCH_ROWS: '5' })
  await streaming(first)
  await writeHistory(writer, { aggregateType, accounts: 10, from: 1, to: 100 })
  await waitUntil(async () => (await first.status()).lastBatch !== null, { what: 'a batch' })
  expect(await first.stop('SIGTERM')).toEqual({ code: 0, signal: null })
  await waitUntil(async () => (await slotNames(writer)).length === 0, { what: 'the slot to go' })
  // Saved is exactly what was sent, so that the next one repeats nothing.
  const { rows } = await writer.client.query('select next_position, leader from outbox.relay')
  const sent = (await wal.dump()).length
  expect(rows).toEqual([{ next_position: String(sent + 1), leader: null }])
  await using second = await wal.relay()
  await drained(second, writer)
  expect(await wal.versions()).toEqual(complete(10, 100))
}, 90_000)

test('killed with -9 inside a transaction of 1,000 rows: a successor sends the rest', async () => {
  const { aggregateType } = wal
  await using writer = await wal.superuser()
  await using first = await wal.relay({ RELAY_BATCH_ROWS: '1' })
  await streaming(first)
  await writeHistory(writer, { aggregateType, accounts: 10, from: 1, to: 100 })
  await waitUntil(async () => (await first.status()).lastBatch !== null, { what: 'a batch' })
  await first.stop('SIGKILL')
  const sent = (await wal.dump()).length
  expect(sent).toBeGreaterThan(0)
  expect(sent).toBeLessThan(1_000)
  await using second = await wal.relay()
  await drained(second, writer)
  expect(await wal.versions()).toEqual(complete(10, 100))
}, 90_000)

test('a leader that dies is followed by one with a slot of its own, and the old slot is gone', async () => {
  const { aggregateType } = wal
  await using writer = await wal.superuser()
  await using first = await wal.relay()
  await streaming(first)
  await using second = await wal.relay()
  for (let version = 1; version <= 60; version += 1) {
    await writeHistory(writer, { aggregateType, accounts: 5, from: version, to: version })
    if (version === 20) void first.stop('SIGKILL')
  }
  await streaming(second, '1')
  await writeHistory(writer, { aggregateType, accounts: 5, from: 61, to: 80 })
  await drained(second, writer)
  expect(await wal.versions()).toEqual(complete(5, 80))
  expect(await slotNames(writer)).toEqual([expect.stringMatching(/^sluice_wal_\d+_2$/)])
}, 90_000)

test('a walsender that is terminated: polling takes over, then a new stream, and all of it is told', async () => {
  const { aggregateType } = wal
  await using writer = await wal.superuser()
  await using relay = await wal.relay()
  await streaming(relay)
  expect(await metric(relay, 'sluice_relay_stream_losses_total')).toBe(0)
  for (let version = 1; version <= 40; version += 1) {
    await writeHistory(writer, { aggregateType, accounts: 5, from: version, to: version })
    if (version === 20) {
      await writer.sql(`select pg_terminate_backend(active_pid) from pg_replication_slots
        where database = current_database()`)
    }
  }
  await streaming(relay, '1')
  await writeHistory(writer, { aggregateType, accounts: 5, from: 41, to: 50 })
  await drained(relay, writer)
  expect(await wal.versions()).toEqual(complete(5, 50))
  expect(await auditOf(writer)).toEqual(['1 stream_began', '1 stream_ended', '2 stream_began'])
  expect(await metric(relay, 'sluice_relay_stream_losses_total')).toBe(1)
}, 90_000)

test('a replication address of another database streams nothing, and says so', async () => {
  await using other = await testOutbox()
  await using writer = await wal.superuser()
  await using relay = await wal.relay({ CDC_DATABASE_URL: other.cdcUrl })
  const told = async () =>
    /another server or database/.test((await relay.status()).waitingFor ?? '')
  await waitUntil(told, { what: 'it to be told', deadlineMs: 20_000 })
  const { aggregateType } = wal
  await writeHistory(writer, { aggregateType, accounts: 5, from: 1, to: 10 })
  await drained(relay, writer)
  expect((await relay.status()).source).toBe('polling')
  expect(await wal.versions()).toEqual(complete(5, 10))
  await relay.stop('SIGTERM')
})

test('a stream that lives and lacks rows is noticed: polling sends them', async () => {
  const { aggregateType } = wal
  await using writer = await wal.superuser()
  await using relay = await wal.relay()
  await streaming(relay)
  await writer.sql('alter publication sluice_outbox drop table outbox.events')
  await writeHistory(writer, { aggregateType, accounts: 5, from: 1, to: 10 })
  await drained(relay, writer)
  expect((await relay.status()).lastError?.message).toMatch(/does not bring position 1,/)
  await writer.sql('alter publication sluice_outbox add table outbox.events')
  await streaming(relay, '1')
  await writeHistory(writer, { aggregateType, accounts: 5, from: 11, to: 20 })
  await drained(relay, writer)
  expect(await wal.versions()).toEqual(complete(5, 20))
}, 90_000)
