import { RelayError } from '../errors.ts'
import type { SlotState } from '../relay-state.ts'
import { type Queryable, queryText } from '../text-query.ts'

const timeoutMs = 5_000

/** A slot may be behind: by a stop of Kafka, or by a transaction that is open. Its log is not to fill the disk. */
const defaultRetainedLimit = 1_000_000_000

/** What the server says of a slot; undefined when there is none of that name. */
export async function readSlot(db: Queryable, name: string): Promise<SlotState | undefined> {
  const [row] = await queryText(db, {
    name: 'relay-slot',
    text: `select wal_status, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::bigint,
                  confirmed_flush_lsn
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
  }
}

/**
 * Throws `slot_lost` when the slot is gone, or beyond `max_slot_wal_keep_size`: what it needs will be
 * removed at the next checkpoint, if it has not been. Throws it too when more bytes are kept for the
 * slot than it is worth: the server's own limit is off by default. The rows are still in the table.
 */
export function checkSlot(
  slot: SlotState | undefined,
  name: string,
  retainedLimit = defaultRetainedLimit,
): SlotState {
  if (slot === undefined) throw new RelayError('slot_lost', `slot ${name} is gone`)
  if (slot.retainedBytes > retainedLimit) {
    throw new RelayError(
      'slot_lost',
      `slot ${name} is given up: the server keeps ${slot.retainedBytes} bytes of log for it`,
    )
  }
  if (slot.walStatus === 'reserved' || slot.walStatus === 'extended') return slot
  throw new RelayError(
    'slot_lost',
    `slot ${name} is ${slot.walStatus}: the server keeps no more log for it than ` +
      'max_slot_wal_keep_size allows',
  )
}
