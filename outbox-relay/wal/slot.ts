import { RelayError } from '../errors.ts'
import type { SlotState } from '../relay-state.ts'
import { type Queryable, queryText } from '../text-query.ts'

const timeoutMs = 5_000

/** A slot may be behind: by a stop of Kafka, or by a transaction that is open. Its log is not to fill the disk. */
const defaultRetainedLimit = 1_000_000_000

/** Of what `max_slot_wal_keep_size` lets the server keep: with less left, the next second may take it. */
const spareShare = 0.1

/** What the server says of a slot; undefined when there is none of that name. */
export async function readSlot(db: Queryable, name: string): Promise<SlotState | undefined> {
  const [row] = await queryText(db, {
    name: 'relay-slot',
    text: `select wal_status || coalesce(' (' || invalidation_reason || ')', ''),
                  pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::bigint,
                  confirmed_flush_lsn, safe_wal_size
             from pg_replication_slots where slot_name = $1 and database = current_database()`,
    values: [name],
    timeoutMs,
  })
  if (row === undefined) return undefined
  return {
    name,
    walStatus: row[0] ?? 'lost',
    retainedBytes: Number(row[1] ?? 0),
    confirmedFlush: row[2] ?? null,
    safeBytes: typeof row[3] === 'string' ? Number(row[3]) : null,
  }
}

/**
 * Throws `slot_lost` when the slot is gone or invalidated, and before that: when
 * `max_slot_wal_keep_size` leaves little more for it, since what is beyond is removed at the next
 * checkpoint, and its reader ended at any moment. Throws it too when more bytes are kept for the slot
 * than it is worth: the server's own limit is off by default. The rows are still in the table.
 */
export function checkSlot(
  slot: SlotState | undefined,
  name: string,
  retainedLimit = defaultRetainedLimit,
): SlotState {
  if (slot === undefined) throw new RelayError('slot_lost', `slot ${name} is gone`)
  const why = whyGivenUp(slot, retainedLimit)
  if (why === undefined) return slot
  throw new RelayError('slot_lost', `slot ${name} is ${why}`)
}

function whyGivenUp(slot: SlotState, retainedLimit: number): string | undefined {
  const { walStatus, retainedBytes, safeBytes } = slot
  if (walStatus.startsWith('lost')) return `${walStatus}: the server keeps no log for it any more`
  if (retainedBytes > retainedLimit) {
    return `given up: the server keeps ${retainedBytes} bytes of log for it`
  }
  if (walStatus !== 'reserved' && walStatus !== 'extended') {
    return `${walStatus}: the server keeps no more log for it than max_slot_wal_keep_size allows`
  }
  if (safeBytes !== null && safeBytes < spareShare * (safeBytes + retainedBytes)) {
    return `given up: ${safeBytes} bytes of log further, and max_slot_wal_keep_size allows no more`
  }
  return undefined
}
