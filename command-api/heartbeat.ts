import type { Pool } from 'pg'
import { pause } from 'service/backoff'
import type { Log } from 'service/log'
import { heartbeatIds, heartbeatType } from './events.ts'

// One small row a second through the whole pipe. Its ids are reserved, one for each partition, and
// take turns; each has a locked row with its version, so a heartbeat obeys the same law of order as
// an account's event. It reaches neither the event store nor the feed. After a silence, a start
// included, each partition gets one at once: who watches them sees in seconds that all is well again.

const insertText = `
with seeded as (
  insert into ledger.heartbeats (id, version) select unnest($1::text[]), 0
  on conflict do nothing
), due as (
  select id, version + 1 as version from ledger.heartbeats
  where id = any($1::text[]) order by version, id limit 1 for update skip locked
), beaten as (
  update ledger.heartbeats h set version = due.version from due where h.id = due.id
  returning h.id, h.version
)
insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload, source,
  specversion, traceparent, correlationid, causationid, occurred_at)
select $2::uuid, 'account', id, version, $3, $4::json, 'urn:sluice:command-api', '1.0',
  $5, $2::uuid::text, $2::uuid::text, $6::timestamptz
from beaten order by id, version`

/** Writes one heartbeat; which id's turn it is the table knows. The first ever only seeds them. */
export async function beat(pool: Pool, now: Date, newId: () => string): Promise<void> {
  const id = newId()
  const traceparent = `00-${id.replaceAll('-', '')}-${newId().replaceAll('-', '').slice(0, 16)}-00`
  const at = now.toISOString()
  const values = [heartbeatIds, id, heartbeatType, JSON.stringify({ at }), traceparent, at]
  await pool.query({ name: 'heartbeat', text: insertText, values })
}

export type HeartbeatSettings = {
  pool: Pool
  everySeconds: number
  now: () => Date
  newId: () => string
  signal: AbortSignal
  log: Log
}

/** Between those of the round after a silence. */
const roundPauseMs = 100

/** Beats until the signal aborts. A beat that fails is only said: the next one is a second away. */
export async function runHeartbeat(settings: HeartbeatSettings): Promise<void> {
  const { pool, everySeconds, now, newId, signal, log } = settings
  if (everySeconds === 0) return
  let failures = 0
  // One more, since the first ever only makes their rows.
  const round = heartbeatIds.length + 1
  let owed = round
  while (!signal.aborted) {
    try {
      await beat(pool, now(), newId)
      failures = 0
      owed = Math.max(0, owed - 1)
    } catch (error) {
      failures += 1
      owed = round
      const level = failures > 5 ? 'error' : 'warn'
      log[level]({ event: 'heartbeat_failed', err: error, failures }, 'no heartbeat written')
    }
    await pause(failures === 0 && owed > 0 ? roundPauseMs : everySeconds * 1_000, signal)
  }
}
