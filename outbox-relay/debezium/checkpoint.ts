import type { Cursor } from '../cursor.ts'
import type { Progress } from '../progress.ts'
import type { SlotState } from '../relay-state.ts'
import { type Queryable, queryText } from '../text-query.ts'
import { type Lsn, parseLsn } from '../wal/lsn.ts'

// A connector tells nobody what it has published; the slot does, a moment later. So the leader looks
// at what is visible and not yet published, in one snapshot, and then writes a message into the log.
// Once the slot's confirmed position has reached that message, all of those rows are in Kafka:
//   1. a transaction is visible only after its commit record was written, so every row that the
//      snapshot saw has its commit record before a message that is written later. Whoever was still
//      running is not in the snapshot, and belongs to a later checkpoint: nobody is waited for;
//   2. the stream goes by commit records, and what the connector reports is the last commit of which
//      Kafka has confirmed everything, as far as it has stored its offsets.
// The message is transactional: nothing else moves the slot when no row is written, and then the
// server would keep all that others write.

export type Checkpoint = {
  /** Ascending, from open gaps and from `next` on. */
  positions: readonly bigint[]
  /** false: there may be more that was visible. */
  complete: boolean
  lsn: Lsn
  /** Of `performance.now`. */
  takenMs: number
}

/** Looks, then writes the message. */
export async function takeCheckpoint(
  db: Queryable,
  cursor: Pick<Cursor, 'visible'>,
  progress: Progress,
): Promise<Checkpoint> {
  const { positions, complete } = await cursor.visible(progress)
  const [row] = await queryText(db, {
    name: 'relay-checkpoint',
    text: `select pg_logical_emit_message(true, 'sluice_checkpoint', '')`,
    values: [],
    timeoutMs: 5_000,
  })
  return { positions, complete, lsn: parseLsn(row?.[0] ?? ''), takenMs: performance.now() }
}

type Confirmed = Pick<SlotState, 'confirmedFlush'>

/** Whether Kafka has all of the checkpoint's rows. */
export function hasPassed(
  { lsn }: Pick<Checkpoint, 'lsn'>,
  { confirmedFlush }: Confirmed,
): boolean {
  return confirmedFlush !== null && parseLsn(confirmedFlush) >= lsn
}

/** Since when the slot has stood where it stands. */
export type Standing = { confirmedFlush: string | null; sinceMs: number }

export function standingOf(
  last: Standing | undefined,
  { confirmedFlush }: Confirmed,
  nowMs: number,
): Standing {
  return last?.confirmedFlush === confirmedFlush ? last : { confirmedFlush, sinceMs: nowMs }
}

/** A slot that moves is late, and not at a standstill, however far it has to go. */
export function standsStillMs(
  { takenMs }: Pick<Checkpoint, 'takenMs'>,
  { sinceMs }: Standing,
  nowMs: number,
): number {
  return nowMs - Math.max(takenMs, sinceMs)
}
