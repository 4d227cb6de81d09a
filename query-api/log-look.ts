import { describeTopic, topicOffsets } from 'kafka/admin'
import { pause } from 'service/backoff'
import type { LogBounds } from './stop-reason.ts'

/** A topic's log as it is now. */
export type LogLook = { bounds: ReadonlyMap<number, LogBounds>; topicId: string }

const gatherMs = 50

/**
 * Gives looks at a topic's log, each begun after it was asked for. Who asks at about the same time
 * shares one: so the projections of a process cost Kafka no more than one of them would.
 */
export function openLogLook(question: {
  brokers: readonly string[]
  topic: string
}): () => Promise<LogLook> {
  let next: Promise<LogLook> | undefined
  return () => {
    next ??= (async () => {
      await pause(gatherMs)
      next = undefined
      const bounds = await topicOffsets(question)
      // Read last: bounds of a topic made anew are then never held against the id of the old one.
      const { id } = await describeTopic(question)
      return { bounds, topicId: id }
    })()
    return next
  }
}
