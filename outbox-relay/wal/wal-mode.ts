import { backoffMs } from 'service/backoff'
import { Handover } from '../handover.ts'
import type { Leadership } from '../leadership.ts'
import { poll } from '../polling.ts'
import type { Progress } from '../progress.ts'
import { noteProgress, noteSlot, noteSource, noteWaiting } from '../relay-state.ts'
import { awaitedRow } from './missing-row.ts'
import { checkSlot, readSlot } from './slot.ts'
import { wayToLog } from './wal-entry.ts'
import { streamLog } from './wal-stream.ts'

/** A stream that lived this long has shown that the next one is worth an immediate try. */
const steadyMs = 60_000

/** What one process remembers of its streams, over all its leaderships. */
export type WalHistory = { shortLived: number }

/**
 * wal mode, until another is wanted or the process is to stop: polls until the handover, then streams.
 * Throws what ended the stream, so that the next leadership begins as every other does, with a look at
 * which server this is.
 */
export async function leadByLog(
  leadership: Leadership,
  { url, history }: { url: string; history: WalHistory },
): Promise<Progress> {
  const { polling, pool, lease, names, stop, notes, course } = leadership
  const { walSlot: slotName } = names
  const { shortLived } = history
  await using handover = new Handover({
    way: wayToLog({ url, db: pool, names }),
    db: pool,
    step: (name) => course.step(name),
    firstPauseMs: shortLived === 0 ? 0 : backoffMs(shortLived, { firstMs: 500, capMs: 30_000 }),
    waiting: (why, whose) => noteWaiting(notes, why, whose),
    signal: lease.lost,
  })
  noteSource(notes, 'polling')
  const start = await poll({ ...polling, until: (batch) => handover.covers(batch) })
  if (stop.aborted) return start
  const entered = handover.take()
  await course.step('begin')
  const begunMs = performance.now()
  await leadership.audit({
    action: 'stream_began',
    before: 'polling',
    after: 'wal',
    reason: `slot ${slotName} is handed over`,
  })
  noteSource(notes, 'wal')
  try {
    await course.arrived('wal')
    return await streamLog({
      entered,
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
    const short = !stop.aborted && performance.now() - begunMs < steadyMs
    history.shortLived = short ? shortLived + 1 : 0
    noteSlot(notes, null)
    noteSource(notes, 'polling')
  }
}
