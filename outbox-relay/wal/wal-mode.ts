import { backoffMs } from 'service/backoff'
import type { Leadership } from '../leadership.ts'
import { namesOf } from '../names.ts'
import { poll } from '../polling.ts'
import { noteProgress, noteSlot, noteSource, noteWaiting } from '../relay-state.ts'
import { awaitedRow } from './missing-row.ts'
import { checkSlot, readSlot } from './slot.ts'
import { WalEntry } from './wal-entry.ts'
import { streamLog } from './wal-stream.ts'

/** A stream that lived this long has shown that the next one is worth an immediate try. */
const steadyMs = 60_000

/** What one process remembers of its streams, over all its leaderships. */
export type WalHistory = { shortLived: number }

/**
 * One leadership in wal mode: polls until the handover, then streams. Throws what ended the stream,
 * so that the next leadership begins as every other does, with a look at which server this is.
 */
export async function leadByLog(
  leadership: Leadership,
  { url, history }: { url: string; history: WalHistory },
): Promise<void> {
  const { polling, pool, lease, stop, notes } = leadership
  const { walSlot: slotName } = await namesOf(pool, lease)
  const { shortLived } = history
  await using entry = new WalEntry({
    url,
    db: pool,
    epoch: lease.epoch,
    slotName,
    assertHeld: () => lease.assertHeld(),
    firstPauseMs: shortLived === 0 ? 0 : backoffMs(shortLived, { firstMs: 500, capMs: 30_000 }),
    waiting: (why) => noteWaiting(notes, why),
    signal: lease.lost,
  })
  noteSource(notes, 'polling')
  const start = await poll({ ...polling, until: (batch) => entry.covers(batch) })
  if (stop.aborted) return
  lease.assertHeld()
  const begunMs = performance.now()
  await leadership.audit({
    action: 'stream_began',
    before: 'polling',
    after: 'wal',
    reason: `slot ${slotName} is handed over`,
  })
  noteSource(notes, 'wal')
  try {
    await streamLog({
      entered: entry.take(),
      start,
      publish: polling.publish,
      saver: polling.saver,
      cursor: leadership.cursor,
      readSlot: async () => checkSlot(await readSlot(pool, slotName), slotName),
      awaitedRow: (progress) => awaitedRow(pool, progress),
      onSlot: (slot) => noteSlot(notes, slot),
      onProgress: (progress) => noteProgress(notes, progress),
      batchRows: polling.batchRows,
      lost: leadership.lost,
      stop,
    })
  } catch (error) {
    notes.metrics.streamLosses.inc()
    const reason = (error as Error).message
    // The epoch may be over, or the server away: the log of this process has it then.
    await leadership
      .audit({ action: 'stream_ended', before: 'wal', after: 'polling', reason })
      .catch(() => {})
    throw error
  } finally {
    history.shortLived = performance.now() - begunMs < steadyMs ? shortLived + 1 : 0
    noteSlot(notes, null)
    noteSource(notes, 'polling')
  }
}
