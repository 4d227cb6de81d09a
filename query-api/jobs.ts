import type { Pool } from 'pg'
import type { Log } from 'service/log'
import { type LogLook, openLogLook } from './log-look.ts'
import type { Projection } from './projection.ts'
import { readModels } from './projections/table.ts'
import { type ProjectorSettings, runProjector } from './projector.ts'
import { openFeed } from './quarantine/feed.ts'
import { Repairer } from './quarantine/repairer.ts'
import { accountTopic, newStatus, type ProjectionStatus } from './status.ts'

// Each projection of the table runs in a consumer group of its own, in whichever processes are told
// to run it. Every process knows all of them, reports them and repairs by hand.

/**
 * Connections for so many projections at work: three chunks and a look each, some for the repairs.
 * Beyond a bound they take turns, since one process has no more than one processor for them.
 */
export function projectorConnections(running: number): number {
  return Math.min(2 + 4 * running, 20)
}

/** One projection, as this process knows it. */
export type Job = {
  projection: Projection
  status: ProjectionStatus
  repairer: Repairer
  /** Returns at once where only other processes run it. */
  run(observeSeconds: (seconds: number) => void): Promise<void>
}

export type JobSettings = {
  /** Names of the projections that run in this process. */
  running: readonly string[]
  /** Of the role sluice_projector, with `projectorConnections`. */
  pool: Pool
  brokers: readonly string[]
  /** The way to the feed; both or none. */
  commandApi: { url: string | undefined; key: string | undefined }
  sweepSeconds: number
  heartbeatSeconds: number
  signal: AbortSignal
  log: Log
}

export function openJobs(settings: JobSettings): {
  jobs: Job[]
  lookAtLog: () => Promise<LogLook>
} {
  const { pool, brokers, commandApi, sweepSeconds, heartbeatSeconds, signal, log } = settings
  const { url, key } = commandApi
  const feed = url === undefined || key === undefined ? undefined : openFeed({ url, key })
  const sweep: Pick<ProjectorSettings, 'sweep'> =
    feed === undefined || sweepSeconds === 0
      ? {}
      : { sweep: { feed, everyMs: sweepSeconds * 1_000, heartbeatSeconds } }
  const lookAtLog = openLogLook({ brokers, topic: accountTopic })
  const jobs = readModels.map(({ projection }): Job => {
    const status = newStatus(projection.name)
    status.elsewhere = !settings.running.includes(projection.name)
    const shared = { pool, projection, status, signal, log }
    const repairer = new Repairer({ ...shared, feed })
    const run = async (observeSeconds: (seconds: number) => void) => {
      if (status.elsewhere) return
      await runProjector({ ...shared, ...sweep, brokers, repairer, lookAtLog, observeSeconds })
    }
    return { projection, status, repairer, run }
  })
  return { jobs, lookAtLog }
}
