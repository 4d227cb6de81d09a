import type { Pool } from 'pg'
import type { Log } from 'service/log'
import { openAccountState } from './account-state/job.ts'
import { type LogLook, openLogLook } from './log-look.ts'
import { runTeller } from './notifications/teller.ts'
import type { Projection } from './projection.ts'
import { notifications } from './projections/notifications.ts'
import { readModels } from './projections/table.ts'
import { startTiers } from './projections/tiers-change.ts'
import type { Edges } from './projections/tiers-edges.ts'
import { tiers } from './projections/tiers.ts'
import { type ProjectorSettings, runProjector } from './projector.ts'
import { feedOf } from './quarantine/feed.ts'
import { Repairer } from './quarantine/repairer.ts'
import { accountState, accountTopic, newStatus, type ProjectionStatus } from './status.ts'

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
  /** What TIERS says, by currency. */
  tierEdges: ReadonlyMap<string, Edges>
  /** Of the role sluice_projector, with `projectorConnections`. */
  pool: Pool
  brokers: readonly string[]
  /** Who is told of notifications, where that projection runs; without one, the log is. */
  webhookUrl: string | undefined
  /** The way to the feed; both or none. */
  commandApi: { url: string | undefined; key: string | undefined }
  sweepSeconds: number
  heartbeatSeconds: number
  signal: AbortSignal
  log: Log
}

export function openJobs(settings: JobSettings): {
  jobs: Job[]
  /** What else runs here: the topic `account-state`, and telling what is to be told. */
  others: (() => Promise<void>)[]
  /** Of the jobs, and of `account-state`. */
  statuses: ProjectionStatus[]
  lookAtLog: () => Promise<LogLook>
} {
  const { pool, brokers, commandApi, sweepSeconds, heartbeatSeconds, signal, log } = settings
  const feed = feedOf(commandApi)
  const sweep: Pick<ProjectorSettings, 'sweep'> =
    feed === undefined || sweepSeconds === 0
      ? {}
      : { sweep: { feed, everyMs: sweepSeconds * 1_000, heartbeatSeconds } }
  const runs = (name: string) => settings.running.includes(name)
  const lookAtLog = openLogLook({ brokers, topic: accountTopic })
  const jobs = readModels.map(({ projection }): Job => {
    const status = newStatus(projection.name)
    status.elsewhere = !runs(projection.name)
    const shared = { pool, projection, status, signal, log }
    const repairer = new Repairer({ ...shared, feed })
    const run = async (observeSeconds: (seconds: number) => void) => {
      if (status.elsewhere) return
      if (projection === tiers) await startTiers(shared, settings.tierEdges)
      await runProjector({ ...shared, ...sweep, brokers, repairer, lookAtLog, observeSeconds })
    }
    return { projection, status, repairer, run }
  })
  const state = openAccountState({ running: runs(accountState), pool, brokers, signal, log })
  const others = [state.run]
  if (runs(notifications.name)) {
    others.push(() => runTeller({ pool, webhookUrl: settings.webhookUrl, signal, log }))
  }
  return { jobs, others, statuses: [...jobs.map(({ status }) => status), state.status], lookAtLog }
}
