import { type KafkaRecord, RecordRefused } from 'kafka/producer'
import { RelayError } from './errors.ts'
import type { Progress } from './progress.ts'
import type { Published } from './relay-state.ts'
import { encode, type OutboxRow } from './wire.ts'

/**
 * Publishes rows, in their order, and offers the progress that they make to be saved. `progressAt`
 * gives it once the first so many rows are published. Throws `event_refused` with progress saved up
 * to the event; anything else it throws leaves progress where it was last saved.
 */
export type Publish = (
  rows: readonly OutboxRow[],
  progressAt: (count: number) => Progress,
) => Promise<void>

export type PublishingOptions = {
  /** Resolves once Kafka has confirmed all of them. */
  send: (records: readonly KafkaRecord[]) => Promise<void>
  saver: { offer(confirmed: Progress): void; flush(): Promise<void> }
  onPublished: (published: Published) => void
  now: () => number
}

export function openPublishing({ send, saver, onPublished, now }: PublishingOptions): Publish {
  return async (rows, progressAt) => {
    const startedMs = now()
    try {
      await send(rows.map(encode))
    } catch (error) {
      if (!(error instanceof RecordRefused)) {
        // Stopped, or not leading any more: what was confirmed before is saved if it still can be.
        await saver.flush().catch(() => {})
        throw error
      }
      saver.offer(progressAt(error.index))
      await saver.flush()
      throw eventRefused(rows, error)
    }
    const after = progressAt(rows.length)
    saver.offer(after)
    onPublished({ rows, publishMs: now() - startedMs, after })
  }
}

function eventRefused(rows: readonly OutboxRow[], refused: RecordRefused): RelayError {
  const [position, id, aggregateType, aggregateId, version, type] = rows[refused.index] ?? []
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
