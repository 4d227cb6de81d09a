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
  writeHistory,
} from './test-wal-relay.ts'

// What is done to a whole server, so each test has one of its own.

const walTest = ({ url }: OwnServer, brokers = testBrokers()) =>
  openWalTest({ brokers, relayUrl: url, cdcUrl: url, superuserUrl: url })

/** 200 MB of log that nobody of ours asked for. */
async function writeElsewhere(session: Session): Promise<void> {
  await session.sql('create table noise (text text)')
  await session.sql(`insert into noise select repeat('n', 1000) from generate_series(1, 190000)`)
  await session.sql('drop table noise')
}

describe.skipIf(process.env.TEST_STACK === 'containers')('the server', () => {
  test('keeps no more log for a relay that is held up: it polls, makes a new slot, and loses nothing', async () => {
    await using server = await ownServer({ max_slot_wal_keep_size: '1MB' })
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
    await writeElsewhere(writer)
    await waitUntil(async () => (await slotNames(writer)).length === 0, { what: 'the slot to go' })
    await writer.sql('checkpoint')
    kafka.proxy.heal()
    await streaming(relay, '1')
    await writeHistory(writer, { aggregateType, accounts: 5, from: 501, to: 510 })
    await drained(relay, writer)
    expect(await wal.versions()).toEqual(complete(5, 510))
    expect(await slotNames(writer)).toEqual([expect.stringMatching(/^sluice_wal_\d+_2$/)])
    expect(await auditOf(writer)).toEqual(['1 stream_began', '1 stream_ended', '2 stream_began'])
    expect(await metric(relay, 'sluice_relay_stream_losses_total')).toBe(1)
    const { rows } = await writer.client.query<{ reason: string }>(
      "select reason from outbox.audit where action = 'stream_ended'",
    )
    expect(rows[0]?.reason).toMatch(/is unreserved: .* max_slot_wal_keep_size allows$/)
  }, 120_000)

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

  test('keeps no more than two segments of log for an idle outbox beside a busy database', async () => {
    await using server = await ownServer()
    const wal = await walTest(server)
    await using writer = await wal.superuser()
    await using relay = await wal.relay()
    await streaming(relay)
    await writeElsewhere(writer)
    const retained = async () => {
      // The server does this itself every 15 seconds: only then a slot can let go of anything.
      await writer.sql('select pg_log_standby_snapshot()')
      return (await relay.status()).slot?.retainedBytes ?? Infinity
    }
    await waitUntil(async () => (await retained()) < 32_000_000, {
      what: 'the log to be let go',
      deadlineMs: 30_000,
      intervalMs: 200,
    })
    expect((await relay.status()).epoch).toBe('1')
  }, 120_000)
})
