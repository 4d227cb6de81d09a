import { randomUUID } from 'node:crypto'
import { pause } from 'service/backoff'
import { expect, test } from 'vitest'
import { known } from './test-modes.ts'
import type { Session } from './test-outbox.ts'
import { openStage, sendsBy, type Stage } from './test-stage.ts'
import { auditOf } from './wal/test-wal-relay.ts'

// Nothing is written to the outbox, and much beside it: how old is the log that the server keeps for
// the slot, at its worst? In seconds, since the server lets go by the clock: at its own records of what
// runs, every 15 s, and with a transaction open at that moment as far as the one before.

const busyMs = 75_000
const sampleMs = 200

type Place = { atMs: number; end: number }
/** How old, in ms: the oldest log that is kept for a slot, and what is not confirmed of it. */
type Ages = { keptMs: number; unconfirmedMs: number }

/** When the log ended there; before the first look it may have been at any time. */
function reachedMs(places: readonly Place[], place: number): number {
  return (places.findLast(({ end }) => end <= place) ?? places[0])?.atMs ?? -Infinity
}

/** The worst of each slot of the database, until the signal aborts, and how much was written. */
async function watchSlots({ client }: Session, signal: AbortSignal) {
  const places: Place[] = []
  const worst = new Map<string, Ages>()
  while (!signal.aborted) {
    const atMs = performance.now()
    const { rows } = await client.query<
      Record<'end' | 'kept' | 'confirmed', number> & { name: string }
    >(
      `select slot_name as name, pg_wal_lsn_diff(log_end, '0/0')::float8 as "end",
              pg_wal_lsn_diff(restart_lsn, '0/0')::float8 as kept,
              pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::float8 as confirmed
         from pg_replication_slots, pg_current_wal_insert_lsn() as log_end
        where database = current_database()`,
    )
    places.push({ atMs, end: rows[0]?.end ?? 0 })
    for (const { name, kept, confirmed } of rows) {
      const { keptMs, unconfirmedMs } = worst.get(name) ?? { keptMs: 0, unconfirmedMs: 0 }
      worst.set(name, {
        keptMs: Math.max(keptMs, atMs - reachedMs(places, kept)),
        unconfirmedMs: Math.max(unconfirmedMs, atMs - reachedMs(places, confirmed)),
      })
    }
    await pause(sampleMs, signal)
  }
  return { worst, bytes: (places.at(-1)?.end ?? 0) - (places[0]?.end ?? 0) }
}

/** About 5 MB a second, in small transactions, until the signal aborts. */
async function writeBeside({ sql }: Session, signal: AbortSignal): Promise<void> {
  await sql('create table busy (filling text)')
  while (!signal.aborted) {
    await sql("insert into busy select repeat('x', 1000) from generate_series(1, 500)")
    await pause(100, signal)
  }
}

async function busyFor(stage: Stage, durationMs: number) {
  await using writer = await stage.session()
  await using watcher = await stage.session()
  const ended = new AbortController()
  const { signal } = ended
  const timer = setTimeout(() => ended.abort(), durationMs)
  try {
    const [watched] = await Promise.all([watchSlots(watcher, signal), writeBeside(writer, signal)])
    return watched
  } finally {
    clearTimeout(timer)
    ended.abort()
  }
}

// As README.md states them.
test.each([
  { mode: known.wal, keptSeconds: 35, unconfirmedSeconds: 5 },
  { mode: known.debezium, keptSeconds: 40, unconfirmedSeconds: 10 },
])(
  'an idle outbox beside a busy database retains what is written in $keptSeconds s, in mode $mode.name',
  async ({ mode, keptSeconds, unconfirmedSeconds }) => {
    await using stage = await openStage(mode)
    await stage.makeTopic()
    await using session = await stage.session()
    await using relay = await stage.relay({ RELAY_LEASE_MS: '10000' })
    await sendsBy(relay, mode)
    const slot = (
      await session.client.query<{ name: string }>(
        'select slot_name as name from pg_replication_slots where database = current_database()',
      )
    ).rows[0]?.name
    const control = `control_${randomUUID().slice(0, 8)}`
    await session.sql(`select pg_create_logical_replication_slot('${control}', 'pgoutput')`)
    await using _ = {
      [Symbol.asyncDispose]: () => session.sql(`select pg_drop_replication_slot('${control}')`),
    }
    const { worst, bytes } = await busyFor(stage, busyMs)
    const told = [...worst].map(
      ([name, { keptMs, unconfirmedMs }]) =>
        `${name}: kept ${Math.round(keptMs)} ms, unconfirmed ${Math.round(unconfirmedMs)} ms`,
    )
    process.stdout.write(`${Math.round(bytes / 1e6)} MB written; ${told.join('; ')}\n`)
    expect(bytes).toBeGreaterThan(100_000_000)
    const { keptMs = Infinity, unconfirmedMs = Infinity } = worst.get(slot ?? '') ?? {}
    expect(keptMs).toBeLessThan(keptSeconds * 1_000)
    expect(unconfirmedMs).toBeLessThan(unconfirmedSeconds * 1_000)
    // The same slot and stream all the time.
    expect(await auditOf(session)).toEqual(['1 stream_began'])
    // Whoever acknowledges nothing keeps it all: the figures are not blind.
    const unread = worst.get(control)
    expect(unread?.keptMs).toBeGreaterThan(keptSeconds * 1_000)
    expect(unread?.unconfirmedMs).toBeGreaterThan(unconfirmedSeconds * 1_000)
  },
  180_000,
)
