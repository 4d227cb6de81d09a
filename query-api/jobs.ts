import type { Pool } from 'pg'
import type { Log } from 'service/log'
import { accounts } from './accounts.ts'
import type { Projection } from './projection.ts'
import { type ProjectorSettings, runProjector } from './projector.ts'
import { openFeed } from './quarantine/feed.ts'
import { Repairer } from './quarantine/repairer.ts'
import { newStatus, type ProjectionStatus } from './status.ts'

// Each projection of the table runs in a consumer group of its own.
const projections: readonly Projection[] = [accounts]

export const connectionsPerProjector = 6

/** One projection at work in this process. */
export type Job = {
  projection: Projection
  status: ProjectionStatus
  repairer: Repairer
  run(observeSeconds: (seconds: number) => void): Promise<void>
}

export type JobSettings = {
  /** Of the role sluice_projector, with `connectionsPerProjector` for each projection. */
  pool: Pool
  brokers: readonly string[]
  /** The way to the feed; both or none. */
  commandApi: { url: string | undefined; key: string | undefined }
  sweepSeconds: number
  heartbeatSeconds: number
  signal: AbortSignal
  log: Log
}

export function openJobs(settings: JobSettings): Job[] {
  const { pool, brokers, commandApi, sweepSeconds, heartbeatSeconds, signal, log } = settings
  const { url, key } = commandApi
  const feed = url === undefined || key === undefined ? undefined : openFeed({ url, key })
  const sweep: Pick<ProjectorSettings, 'sweep'> =
    feed === undefined || sweepSeconds === 0
      ? {}
      : { sweep: { feed, everyMs: sweepSeconds * 1_000, heartbeatSeconds } }
  return projections.map((projection) => {
    const status = newStatus(projection.name)
    const shared = { pool, projection, status, signal, log }
    const repairer = new Repairer({ ...shared, feed })
    const run = (observeSeconds: (seconds: number) => void) =>
      runProjector({ ...shared, ...sweep, brokers, repairer, observeSeconds })
    return { projection, status, repairer, run }
  })
}
