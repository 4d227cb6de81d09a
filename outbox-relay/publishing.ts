import {
  type Held,
  type OneAtATime,
  type ParkedAggregates,
  type Send,
  sendOrHold,
} from './parking.ts'
import type { Progress } from './progress.ts'
import type { Published } from './relay-state.ts'
import type { OutboxRow } from './wire.ts'

/**
 * Publishes rows, in their order, or holds those of parked aggregates, and offers the progress that they
 * make, asked of `progress` then, to be saved with what is held. What it throws leaves progress where it
 * was last saved.
 */
export type Publish = (rows: readonly OutboxRow[], progress: () => Progress) => Promise<void>

export type PublishingOptions = {
  /** Resolves once Kafka has confirmed all of them. */
  send: Send
  parked: ParkedAggregates
  inTurn: OneAtATime
  saver: {
    offer(confirmed: Progress, held: Held): void
    flush(): Promise<void>
    /** There is so much held in memory that it is to be saved first. */
    readonly full: boolean
  }
  onPublished: (published: Published) => void
  now: () => number
}

export function openPublishing({ inTurn, ...options }: PublishingOptions): Publish {
  return (rows, progress) => inTurn(() => publish(rows, progress, options))
}

async function publish(
  rows: readonly OutboxRow[],
  progress: () => Progress,
  { saver, onPublished, now, ...options }: Omit<PublishingOptions, 'inTurn'>,
): Promise<void> {
  const startedMs = now()
  try {
    const { sent, held } = await sendOrHold(rows, options)
    const after = progress()
    saver.offer(after, held)
    onPublished({ rows: sent, refused: held.refused, publishMs: now() - startedMs, after })
    if (saver.full) await saver.flush()
  } catch (error) {
    // Stopped, or not leading any more: what was confirmed before is saved if it still can be.
    await saver.flush().catch(() => {})
    throw error
  }
}
