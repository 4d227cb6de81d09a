import { type KafkaRecord, RecordRefused } from 'kafka/producer'
import { pause } from 'service/backoff'
import type { Batch } from './cursor.ts'
import { RelayError } from './errors.ts'
import { afterReading, type Progress } from './progress.ts'
import { encode } from './wire.ts'

/** What one leadership polls with. */
export type Polling = {
  /** Progress as saved when the lease was taken. */
  start: Progress
  read: (progress: Progress) => Promise<Batch>
  /** Resolves once Kafka has confirmed all of them. */
  publish: (records: readonly KafkaRecord[]) => Promise<void>
  saver: { offer(confirmed: Progress): void; flush(): Promise<void> }
  /** Throws when the lease is not held. */
  assertHeld: () => void
  onBatch: (batch: Batch, publishMs: number) => void
  onIdle: (progress: Progress) => void
  busyMs: number
  idleMs: number
  now: () => number
  stop: AbortSignal
}

/**
 * Reads and publishes until `stop` aborts, then saves. Batch n + 1 is read while n is in flight,
 * with progress as it stands after n, and sent only once n is confirmed; what is saved covers
 * confirmed rows only. Throws `event_refused` with progress saved up to the event; anything else it
 * throws leaves progress where it was last saved.
 */
export async function poll(polling: Polling): Promise<void> {
  const { saver, stop } = polling
  let reading = readAhead(polling, polling.start)
  for (let waitMs = polling.busyMs; !stop.aborted;) {
    const batch = await reading
    polling.assertHeld()
    if (batch.rows.length > 0) {
      reading = readAhead(polling, batch.after)
      await publish(polling, batch)
      saver.offer(batch.after)
      waitMs = polling.busyMs
      continue
    }
    saver.offer(batch.after)
    await saver.flush()
    polling.onIdle(batch.after)
    await pause(waitMs, stop)
    waitMs = Math.min(waitMs * 2, polling.idleMs)
    reading = readAhead(polling, batch.after)
  }
  await saver.flush()
}

/** A read whose failure is heard of when it is awaited, however long that takes. */
function readAhead(polling: Polling, progress: Progress): Promise<Batch> {
  const reading = polling.read(progress)
  reading.catch(() => {})
  return reading
}

async function publish(polling: Polling, batch: Batch): Promise<void> {
  const startedMs = polling.now()
  try {
    await polling.publish(batch.rows.map(encode))
  } catch (error) {
    if (!(error instanceof RecordRefused)) {
      // Stopped, or not leading any more: what was confirmed before is saved if it still can be.
      await polling.saver.flush().catch(() => {})
      throw error
    }
    polling.saver.offer(upTo(batch, error.index))
    await polling.saver.flush()
    throw eventRefused(batch, error)
  }
  polling.onBatch(batch, polling.now() - startedMs)
}

/** Progress once the rows before `index` are published: all of them were confirmed before it. */
function upTo({ before, positions }: Batch, index: number): Progress {
  if (index === 0) return before
  return afterReading(before, { positions: positions.slice(0, index), complete: false })
}

function eventRefused(batch: Batch, refused: RecordRefused): RelayError {
  const [position, id, aggregateType, aggregateId, version, type] = batch.rows[refused.index] ?? []
  return new RelayError(
    'event_refused',
    `Kafka refuses the event at position ${position} (${refused.reason}): id ${id}, ${type}, ` +
      `${aggregateType} ${aggregateId} version ${version}, ${refused.sizeBytes} bytes as a record. ` +
      'All before it is published and saved; nothing after it is, so that no event is passed over. ' +
      'If it is too large, raise max.message.bytes of the topic above its size and start again',
    {
      cause: refused,
      details: {
        position,
        id,
        type,
        aggregateType,
        aggregateId,
        version,
        bytes: refused.sizeBytes,
      },
    },
  )
}
