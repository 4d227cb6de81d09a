import { pause } from 'service/backoff'
import type { Batch } from './cursor.ts'
import type { Progress } from './progress.ts'
import type { Publish } from './publishing.ts'

/** What one leadership polls with. */
export type Polling = {
  /** Progress as saved when the lease was taken. */
  start: Progress
  read: (progress: Progress) => Promise<Batch>
  publish: Publish
  saver: { offer(confirmed: Progress): void; flush(): Promise<void> }
  /** Throws when the lease is not held. */
  assertHeld: () => void
  onIdle: (progress: Progress) => void
  /** Asked of every batch once it is published, an empty one included: is this the last? */
  until?: (batch: Batch) => boolean
  busyMs: number
  idleMs: number
  stop: AbortSignal
}

/**
 * Reads and publishes until `stop` aborts or `until` says so, then saves; returns what is then
 * published. Batch n + 1 is read while n is in flight,
 * with progress as it stands after n, and sent only once n is confirmed; what is saved covers
 * confirmed rows, and what is held with them, only. What it throws leaves progress where it was last
 * saved.
 */
export async function poll(polling: Polling): Promise<Progress> {
  const { saver, stop, until = never } = polling
  let reading = readAhead(polling, polling.start)
  let published = polling.start
  let emptyReads = 0
  for (let waitMs = polling.busyMs; !stop.aborted;) {
    const batch = await reading
    polling.assertHeld()
    if (batch.rows.length > 0) {
      reading = readAhead(polling, batch.after)
      await polling.publish(batch.rows, () => batch.after)
      published = batch.after
      waitMs = polling.busyMs
      emptyReads = 0
      if (until(batch)) break
      continue
    }
    published = batch.after
    emptyReads += 1
    const last = until(batch)
    const pausing = last ? undefined : pause(waitMs, stop)
    saver.offer(published)
    // Between two batches that nearly follow each other it is saved at its interval only: the flush
    // would hold up the second, and the commands whose commits share the disk.
    if (last || emptyReads > 1) await saver.flush()
    polling.onIdle(published)
    if (last) return published
    await pausing
    waitMs = Math.min(waitMs * 2, polling.idleMs)
    reading = readAhead(polling, published)
  }
  await saver.flush()
  // The connection is somebody else's next.
  await reading.catch(() => {})
  return published
}

const never = () => false

/** A read whose failure is heard of when it is awaited, however long that takes. */
function readAhead(polling: Polling, progress: Progress): Promise<Batch> {
  const reading = polling.read(progress)
  reading.catch(() => {})
  return reading
}
