import { stop } from 'connect/connector'
import { testConnect } from 'local-stack/test-connect'
import { waitUntil } from 'local-stack/wait-until'
import { describe, expect, test } from 'vitest'
import { known } from '../test-modes.ts'
import type { Session } from '../test-outbox.ts'
import { ownServers } from '../test-server.ts'
import { drained, openStage, sendsBy } from '../test-stage.ts'
import { kept } from '../test-topic.ts'
import { ownServer } from '../wal/test-own-server.ts'
import { auditOf, metric, writeElsewhere } from '../wal/test-wal-relay.ts'

// A connector's slot outlives whoever reads it, and so the server can invalidate it. Awake, the relay
// gives it up before that, within a second: here it sleeps, under a lease that is longer.

const mode = known.debezium

/** Somebody else's doing, after which the connector acknowledges nothing. */
const pauseConnector = async (url: string, name: string) => {
  const response = await fetch(`${url}/connectors/${name}/pause`, { method: 'PUT' })
  expect(response.status).toBe(202)
}

async function slotOf({ client }: Session) {
  const { rows } = await client.query<{ wal_status: string; invalidation_reason: string | null }>(
    `select wal_status, invalidation_reason from pg_replication_slots
      where database = current_database()`,
  )
  return rows
}

describe.runIf(ownServers)('a slot that the server invalidates', () => {
  test.each([
    {
      how: 'for the log it keeps',
      settings: { max_slot_wal_keep_size: '1MB' },
      disturb: pauseConnector,
      reason: 'wal_removed',
    },
    {
      how: 'for being idle',
      settings: { idle_replication_slot_timeout: '1s' },
      disturb: (url: string, name: string) => stop({ url }, name),
      reason: 'idle_timeout',
    },
  ])(
    '$how: polling sends, another slot and connector take over, it is told, and nothing is lost',
    async ({ settings, disturb, reason }) => {
      await using server = await ownServer(settings)
      const { url } = server
      const outbox = { relayUrl: url, cdcUrl: url, superuserUrl: url }
      await using stage = await openStage(mode, { outbox })
      await stage.makeTopic()
      await using session = await stage.session()
      await using relay = await stage.relay({ RELAY_LEASE_MS: '300000' })
      await sendsBy(relay, mode)
      await stage.insert(stage.history(5, 1, 20))
      await drained(relay, stage)
      await disturb(await testConnect(), (await relay.status()).connector?.name ?? '')
      void relay.stop('SIGSTOP')
      await stage.insert(stage.history(5, 21, 40))
      await writeElsewhere(session)
      const lost = async () => {
        await session.sql('checkpoint')
        return (await slotOf(session)).every(({ wal_status: status }) => status === 'lost')
      }
      await waitUntil(lost, { what: 'the slot to be lost', deadlineMs: 60_000, intervalMs: 500 })
      expect(await slotOf(session)).toEqual([{ wal_status: 'lost', invalidation_reason: reason }])
      void relay.stop('SIGCONT')
      const again = async () => (await auditOf(session)).length === 3
      await waitUntil(again, { what: 'another connector', deadlineMs: 60_000 })
      await sendsBy(relay, mode)
      await stage.insert(stage.history(5, 41, 50))
      await drained(relay, stage)
      expect(await stage.findings()).toMatchObject(kept)
      expect(await slotOf(session)).toMatchObject([{ invalidation_reason: null }])
      expect(await auditOf(session)).toEqual(['1 stream_began', '1 stream_ended', '1 stream_began'])
      const { rows } = await session.client.query<{ reason: string }>(
        "select reason from outbox.audit where action = 'stream_ended'",
      )
      expect(rows[0]?.reason).toMatch(new RegExp(`is lost \\(${reason}\\)`))
      expect(await metric(relay, 'sluice_relay_stream_losses_total')).toBe(1)
      expect((await relay.status()).lastError).toMatchObject({ code: 'slot_lost' })
    },
    180_000,
  )
})
