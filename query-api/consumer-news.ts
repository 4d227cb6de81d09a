import type { ConsumerOptions } from 'kafka/consumer'
import type { Log } from 'service/log'
import type { ProjectionStatus } from './status.ts'

/** What a consumer tells of itself, in the status and the log of what it consumes for. */
export function consumerNews(
  status: ProjectionStatus,
  log: Log,
): Required<Pick<ConsumerOptions, 'onAlive' | 'onRestart'>> {
  return {
    onAlive: () => (status.aliveAtMs = performance.now()),
    onRestart: ({ failures, waitMs, error }) => {
      status.trouble = `consuming from Kafka failed: ${messageOf(error)}`
      log[failures > 3 ? 'error' : 'warn'](
        {
          event: 'consumer_restarts',
          projection: status.projection,
          failures,
          waitMs,
          err: error,
        },
        `consuming ${status.topic} failed and is tried again in ${waitMs} ms`,
      )
    },
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
