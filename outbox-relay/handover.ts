import { pause } from 'service/backoff'
import { type Batch, presentHolders } from './cursor.ts'
import { RelayError } from './errors.ts'
import type { Queryable } from './text-query.ts'

// How a slot begins to be used, by the log's reader and by a connector alike, without losing what
// lies between the table and the log:
//   1. the slot exists;
//   2. whoever holds RowExclusiveLock on outbox.events by then has ended. A transaction can have its
//      commit record before the slot's consistent point and not be visible yet: it would be neither in
//      the stream nor in a snapshot taken now. Its locks outlive that moment;
//   3. a statement sent after that sees every such transaction;
//   4. all of it is published, by polling, which goes on during the wait;
//   5. only then the stream takes over. What it repeats is recognised by its position.

export type HandoverWait = {
  db: Queryable
  signal: AbortSignal
  /** Told how many transactions are waited for. */
  waiting: (count: number) => void
}

/**
 * Step 2: resolves when every transaction has ended that may have inserted when it was called. Rejects
 * with the signal's reason, with `stream_lost` when the server was started again meanwhile, and with
 * what the database says.
 */
export async function holdersEnded({ db, signal, waiting }: HandoverWait): Promise<void> {
  const first = await presentHolders(db)
  let remaining: ReadonlySet<string> = first.names
  while (remaining.size > 0) {
    waiting(remaining.size)
    await pause(20, signal)
    signal.throwIfAborted()
    const present = await presentHolders(db)
    if (present.server !== first.server) {
      throw new RelayError('stream_lost', 'the server was started again during the handover')
    }
    remaining = remaining.intersection(present.names)
  }
}

/** Steps 3 and 4: whether this published batch is the last that polling has to publish. */
export function handsOver(batch: Batch, endedAtMs: number | undefined): boolean {
  return endedAtMs !== undefined && batch.complete && batch.sentMs > endedAtMs
}
