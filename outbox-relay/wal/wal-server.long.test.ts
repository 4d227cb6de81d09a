import { testBrokers } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { describe, expect, test } from 'vitest'
import type { Session } from '../test-outbox.ts'
import { type OwnServer, ownServer } from './test-own-server.ts'
import { silentKafka } from './test-silent-kafka.ts'
import {
  auditOf,
  complete,
  drained,
  metric,
  openWalTest,
  slotNames,
  streaming,
  writeElsewhere,
  writeHistory,
} from './test-wal-relay.ts'

// What is done to a whole server, so each test has one of its own.

const walTest = ({ url }: OwnServer, brokers = testBrokers()) =>
  openWalTest({ brokers, relayUrl: url, cdcUrl: url, superuserUrl: url })

/** The slot that the test's relay uses, as its server has it. */
async function slotOf({ client }: Session) {
  const { rows } = await client.query<{ status: string; safeBytes: number }>(
    `select wal_status as status, safe_wal_size::float8 as "safeBytes" from pg_replication_slots
      where database = current_database()`,
  )
  return rows[0]
}

/** Why the stream ended, as it was written down. */
async function reasonOf({ client }: Session): Promise<string | undefined> {
  const { rows } = await client.query<{ reason: string }>(
    "select reason from outbox.audit where action = 'stream_ended'",
  )
  return rows[0]?.reason
}

describe.skipIf(process.env.TEST_STACK === 'containers')('the server', () => {
  test('is to keep no more log for a relay that is held up: it polls before that, makes a new slot, and loses nothing', async () => {
    await using server = await ownServer({ max_slot_wal_keep_size: '48MB' })
    await using kafka = await silentKafka()
    const wal = await walTest(server, kafka.brokers)
    const { aggregateType } = wal
    await using writer = await wal.superuser()
    // A long lease: the loss of the slot is what ends the stream, and not that of the lease.
    await using relay = await wal.relay({ RELAY_LEASE_MS: '120000' })
    await streaming(relay)
    await writeHistory(writer, { aggregateType, accounts: 5, from: 1, to: 10 })
    await drained(relay, writer)
    // Its walsender is answered all the time: nothing but the limit ends the stream.
    kafka.proxy.silence()
    await writeHistory(writer, { aggregateType, accounts: 5, from: 11, to: 500 })
    const seen: { status: string; safeBytes: number }[] = []
    for (let slot = await slotOf(writer); slot !== undefined; slot = await slotOf(writer)) {
      seen.push(slot)
      await writeElsewhere(writer, 2)
      // Step by step: what is written between two looks of the relay is less than what it spares.
      const { safeBytes = 0 } = (await slotOf(writer)) ?? {}
      const looked = async () => {
        const known = (await relay.status()).slot?.safeBytes ?? Infinity
        return known <= safeBytes + 100_000 || (await slotOf(writer)) === undefined
      }
      await waitUntil(looked, { what: 'the relay to look', intervalMs: 50 })
    }
    expect(seen.length).toBeGreaterThan(5)
    expect(seen.filter(({ status }) => status !== 'reserved' && status !== 'extended')).toEqual([])
    expect(Math.min(...seen.map(({ safeBytes }) => safeBytes))).toBeGreaterThan(0)
    await writeElsewhere(writer)
    await writer.sql('checkpoint')
    kafka.proxy.heal()
    await streaming(relay, '1')
    await writeHistory(writer, { aggregateType, accounts: 5, from: 501, to: 510 })
    await drained(relay, writer)
    expect(await wal.versions()).toEqual(complete(5, 510))
    expect(await slotNames(writer)).toEqual([expect.stringMatching(/^sluice_wal_\d+_2$/)])
    expect(await auditOf(writer)).toEqual(['1 stream_began', '1 stream_ended', '2 stream_began'])
    expect(await metric(relay, 'sluice_relay_stream_losses_total')).toBe(1)
    expect(await reasonOf(writer)).toMatch(/is given up: \d+ bytes of log further, and max_slot_/)
  }, 180_000)

  test('takes the slot of a relay that sleeps: awake it polls, makes a new slot, and loses nothing', async () => {
    await using server = await ownServer({ max_slot_wal_keep_size: '1MB' })
    const wal = await walTest(server)
    const { aggregateType } = wal
    await using writer = await wal.superuser()
    await using relay = await wal.relay({ RELAY_LEASE_MS: '300000' })
    await streaming(relay)
    await writeHistory(writer, { aggregateType, accounts: 5, from: 1, to: 10 })
    await drained(relay, writer)
    void relay.stop('SIGSTOP')
    await writeHistory(writer, { aggregateType, accounts: 5, from: 11, to: 500 })
    await writeElsewhere(writer, 40)
    // A temporary slot is never seen to be lost: the server ends its walsender, and it goes with that.
    await writer.sql('checkpoint')
    expect(await slotNames(writer)).toEqual([])
    expect(server.logTail()).toMatch(/terminating process \d+ to release replication slot/)
    await writeElsewhere(writer, 160)
    await writer.sql('checkpoint')
    void relay.stop('SIGCONT')
    await streaming(relay, '1')
    await writeHistory(writer, { aggregateType, accounts: 5, from: 501, to: 510 })
    await drained(relay, writer)
    expect(await wal.versions()).toEqual(complete(5, 510))
    expect(await slotNames(writer)).toEqual([expect.stringMatching(/^sluice_wal_\d+_2$/)])
    expect(await auditOf(writer)).toEqual(['1 stream_began', '1 stream_ended', '2 stream_began'])
    expect(await metric(relay, 'sluice_relay_stream_losses_total')).toBe(1)
  }, 180_000)

  test('stops fast though a relay streams, and is streamed from again when it is back', async () => {
    await using server = await ownServer()
    const wal = await walTest(server)
    const { aggregateType } = wal
    await using relay = await wal.relay()
    await streaming(relay)
    {
      await using writer = await wal.superuser()
      await writeHistory(writer, { aggregateType, accounts: 5, from: 1, to: 200 })
    }
    expect(await server.stopFast()).toBeLessThan(10_000)
    await server.startAgain()
    await using writer = await wal.superuser()
    await writeHistory(writer, { aggregateType, accounts: 5, from: 201, to: 210 })
    await streaming(relay, '1')
    await writeHistory(writer, { aggregateType, accounts: 5, from: 211, to: 220 })
    await drained(relay, writer)
    expect(await wal.versions()).toEqual(complete(5, 220))
  }, 120_000)
})
