import { testBrokers } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type TestOutbox, testOutbox } from '../test-outbox.ts'
import { ownServer } from './test-own-server.ts'
import { openProxy, through } from './test-proxy.ts'
import { silentKafka } from './test-silent-kafka.ts'
import {
  complete,
  drained,
  metric,
  openWalTest,
  residentBytes,
  slotNames,
  streaming,
  writeHistory,
} from './test-wal-relay.ts'

let outbox: TestOutbox
beforeEach(async () => {
  outbox = await testOutbox()
})
afterEach(() => outbox[Symbol.asyncDispose]())

test(
  'a replication connection that falls silent is given up, and polling sends',
  { timeout: 120_000 },
  async () => {
    await using proxy = await openProxy(Number(new URL(outbox.cdcUrl).port))
    const cdcUrl = through(outbox.cdcUrl, proxy.port)
    const wal = await openWalTest({ brokers: testBrokers(), ...outbox, cdcUrl })
    const { aggregateType } = wal
    await using writer = await wal.superuser()
    await using relay = await wal.relay()
    await streaming(relay)
    proxy.silence()
    const begunMs = performance.now()
    await writeHistory(writer, { aggregateType, accounts: 5, from: 1, to: 20 })
    await drained(relay, writer)
    expect(performance.now() - begunMs).toBeLessThan(30_000)
    expect((await relay.status()).source).toBe('polling')
    proxy.heal()
    await streaming(relay, '1')
    await writeHistory(writer, { aggregateType, accounts: 5, from: 21, to: 30 })
    await drained(relay, writer)
    expect(await wal.versions()).toEqual(complete(5, 30))
  },
)

describe('while Kafka is away', () => {
  test(
    'memory stays bounded, whatever is written, and all of it comes',
    { timeout: 240_000 },
    async () => {
      await using kafka = await silentKafka()
      const wal = await openWalTest({ brokers: kafka.brokers, ...outbox })
      const { aggregateType } = wal
      await using writer = await wal.superuser()
      await using relay = await wal.relay({ RELAY_LEASE_MS: '10000' })
      await streaming(relay)
      await writeHistory(writer, { aggregateType, accounts: 5, from: 1, to: 100 })
      await drained(relay, writer)
      // Kept as it is, the log is as large as what is written.
      await writer.sql('alter table outbox.events alter column payload set storage external')
      const before = await residentBytes(relay)
      kafka.proxy.silence()
      const silentMs = performance.now()
      const payloadBytes = 10_000
      for (let version = 101; version <= 500; version += 20) {
        const history = {
          aggregateType,
          accounts: 100,
          from: version,
          to: version + 19,
          payloadBytes,
        }
        await writeHistory(writer, history)
      }
      // Many looks of the slot later everything that would come in has come in.
      const slots = async () => (await relay.status()).slot?.retainedBytes ?? 0
      await waitUntil(async () => (await slots()) > 300_000_000, {
        what: 'the log to be kept',
        deadlineMs: 30_000,
      })
      // Longer than a walsender waits for a word of us.
      const outlasted = () => performance.now() - silentMs > 15_000
      await waitUntil(outlasted, { what: 'the timeout of the walsender', deadlineMs: 20_000 })
      const grown = (await residentBytes(relay)) - before
      process.stdout.write(`resident grew by ${Math.round(grown / 1e6)} MB under 400 MB\n`)
      expect(grown).toBeLessThan(200_000_000)
      kafka.proxy.heal()
      await drained(relay, writer)
      expect((await relay.status()).epoch).toBe('1')
      const found = await wal.versions()
      expect(found.size).toBe(100)
      for (const [key, versions] of found) {
        const from = Number(key.slice(2)) <= 5 ? 1 : 101
        expect(versions).toEqual(Array.from({ length: 501 - from }, (_, n) => from + n))
      }
    },
  )

  test(
    'the server is not told of rows that Kafka has not confirmed, and is once it has',
    { timeout: 120_000 },
    async () => {
      await using kafka = await silentKafka()
      const wal = await openWalTest({ brokers: kafka.brokers, ...outbox })
      const { aggregateType } = wal
      await using writer = await wal.superuser()
      await using relay = await wal.relay({ RELAY_LEASE_MS: '120000' })
      await streaming(relay)
      await writer.sql('alter table outbox.events alter column payload set storage external')
      const { rows } = await writer.client.query<{ place: string }>(
        'select pg_current_wal_insert_lsn()::text as place',
      )
      const told = async () => {
        const { rows: slots } = await writer.client.query<{ bytes: string }>(
          `select pg_wal_lsn_diff(confirmed_flush_lsn, $1::pg_lsn)::text as bytes
             from pg_replication_slots where database = current_database()`,
          [rows[0]?.place],
        )
        return Number(slots[0]?.bytes)
      }
      kafka.proxy.silence()
      const silentMs = performance.now()
      // One row, so that it is taken as a whole; its commit is beyond its own 900 kB.
      const payloadBytes = 900_000
      await writeHistory(writer, { aggregateType, accounts: 1, from: 1, to: 1, payloadBytes })
      // Many times what is between two words to the server.
      let farthest = -Infinity
      const outlasted = async () => {
        farthest = Math.max(farthest, await told())
        return performance.now() - silentMs > 6_000
      }
      await waitUntil(outlasted, { what: 'some time', deadlineMs: 20_000, intervalMs: 100 })
      expect(farthest).toBeLessThan(900_000)
      kafka.proxy.heal()
      await drained(relay, writer)
      await waitUntil(async () => (await told()) >= 900_000, { what: 'it to be told' })
      expect((await relay.status()).epoch).toBe('1')
    },
  )

  test(
    'the server can still be stopped fast, and nothing is lost',
    { timeout: 240_000 },
    async () => {
      await using kafka = await silentKafka()
      await using server = await ownServer()
      const { url } = server
      const wal = await openWalTest({
        brokers: kafka.brokers,
        relayUrl: url,
        cdcUrl: url,
        superuserUrl: url,
      })
      const { aggregateType } = wal
      // A long lease: its end would end the stream too.
      await using relay = await wal.relay({ RELAY_LEASE_MS: '120000' })
      await streaming(relay)
      {
        await using writer = await wal.superuser()
        kafka.proxy.silence()
        await writeHistory(writer, { aggregateType, accounts: 5, from: 1, to: 100 })
        expect(await slotNames(writer)).toEqual([expect.stringMatching(/^sluice_wal_\d+_1$/)])
      }
      expect(await server.stopFast()).toBeLessThan(10_000)
      await server.startAgain()
      kafka.proxy.heal()
      await using writer = await wal.superuser()
      await streaming(relay, '1')
      await drained(relay, writer)
      expect(await wal.versions()).toEqual(complete(5, 100))
      expect(await metric(relay, 'sluice_relay_stream_losses_total')).toBeGreaterThan(0)
    },
  )
})
