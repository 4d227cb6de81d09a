import type { Pool } from 'pg'
import { backoffMs, pause } from 'service/backoff'
import type { Log } from 'service/log'
import { databaseFault } from '../database-fault.ts'
import type { LogLook } from '../log-look.ts'
import type { Projection } from '../projection.ts'
import type { NewEntry } from '../quarantine/entries.ts'
import { FeedUnavailable } from '../quarantine/feed.ts'
import type { Repairer } from '../quarantine/repairer.ts'
import type { ProjectionStatus } from '../status.ts'
import type { LogFault } from '../stop-reason.ts'
import { type Progress, repairPartitions, type Repaired } from './pass.ts'
import { readStops, type Stop } from './stops.ts'

// When a partition that stopped is repaired, and what is said until then. What Kafka deleted as it was
// told to is repaired at once. A log that is another one, or shorter than it was, has lost records that
// were acknowledged, or is not ours at all: that only a person can tell, and going on by ourselves
// would make it look as if nothing had happened.

const repairedAtOnce: ReadonlySet<LogFault> = new Set(['records_missing', 'offset_below_log'])

export const feedNeeded =
  'it is repaired from the feed once COMMAND_API_URL and COMMAND_API_KEY ' +
  '(an access key of the role service) are set'

export type PartitionRepairSettings = {
  pool: Pool
  projection: Projection
  status: ProjectionStatus
  /** Without its feed partitions stay stopped. */
  repairer: Repairer
  lookAtLog: () => Promise<LogLook>
  signal: AbortSignal
  log: Log
  /** How often it looks for partitions to repair; nobody is asked while none is stopped. */
  everyMs: number
  onQuarantined: (entries: readonly NewEntry[], partition: number) => void
  /** Told when partitions may go on from their stored offsets. */
  onOver: () => void
}

const failureBackoff = { firstMs: 500, capMs: 30_000 }

/** Runs until the signal aborts. Never throws: what it meets is logged and said in the status. */
export async function runPartitionRepairs(settings: PartitionRepairSettings): Promise<void> {
  const { signal, everyMs, log, status } = settings
  for (let failures = 0; !signal.aborted;) {
    let waitMs = everyMs
    try {
      if (status.stopped.size > 0) await look(settings)
      failures = 0
    } catch (error) {
      if (signal.aborted) return
      failures += 1
      waitMs = backoffMs(failures, failureBackoff)
      const passes = error instanceof FeedUnavailable || databaseFault(error) === 'passing'
      log[passes && failures < 4 ? 'warn' : 'error'](
        { event: 'partitions_not_repaired', projection: status.projection, failures, err: error },
        'the repair of stopped partitions failed and begins again',
      )
    }
    await pause(waitMs, signal)
  }
}

async function look(settings: PartitionRepairSettings): Promise<void> {
  const { pool, status, repairer, onOver } = settings
  const own = (status.assigned ?? []).filter((partition) => status.stopped.has(partition))
  const stops = await readStops(pool, status)
  const due: Stop[] = []
  const over: number[] = []
  status.repairs.clear()
  for (const partition of own) {
    const stop = stops.get(partition)
    if (stop === undefined) {
      if (status.stopped.get(partition)?.code !== 'apply_failed') over.push(partition)
    } else if (repairer.feed === undefined) status.repairs.set(partition, feedNeeded)
    else if (stop.asked || repairedAtOnce.has(stop.code)) {
      status.repairs.set(partition, 'it is being repaired from the feed')
      due.push(stop)
    } else status.repairs.set(partition, askFor(status.projection, partition))
  }
  try {
    if (due.length > 0) over.push(...(await repair(settings, due)))
  } catch (error) {
    const trouble = `the repair failed and begins again: ${(error as Error).message}`
    for (const { partition } of due) status.repairs.set(partition, trouble)
    throw error
  }
  if (over.length === 0) return
  // Repaired, here or elsewhere, or moved by hand.
  for (const partition of over) {
    status.stopped.delete(partition)
    status.repairs.delete(partition)
  }
  onOver()
}

const askFor = (projection: string, partition: number) =>
  'it is repaired from the feed once an operator says that this log is ours: ' +
  `POST /projections/${projection}/partitions/${partition}/repair`

/** Gives the partitions that may go on. */
async function repair(settings: PartitionRepairSettings, due: readonly Stop[]): Promise<number[]> {
  const { status, repairer, lookAtLog } = settings
  const { bounds, topicId } = await lookAtLog()
  // The same topic before and after that look, so the bounds are its own. Made anew once more, it
  // stops once more.
  const sound = due.filter(
    ({ partition, foundTopicId }) => foundTopicId === topicId && bounds.has(partition),
  )
  if (sound.length === 0) return []
  const pass = {
    ...settings,
    feed: repairer.feed!,
    repairAccount: (account: string) => repairer.attempt(account),
    onCompared: (partition: number, { compared, differing }: Progress) =>
      status.repairs.set(
        partition,
        `it is being repaired from the feed: of ${compared} accounts ${differing} were not as there`,
      ),
  }
  const repaired = await repairPartitions(pass, bounds, sound)
  for (const each of repaired) say(settings, each)
  return repaired.map(({ stop }) => stop.partition)
}

function say({ status, log }: PartitionRepairSettings, repaired: Repaired): void {
  const { stop, start, compared, differing } = repaired
  const { partition, code } = stop
  const { projection, topic } = status
  status.repaired.set(code, (status.repaired.get(code) ?? 0) + 1)
  log.error(
    {
      event: 'partition_repaired',
      projection,
      topic,
      partition,
      code,
      compared,
      differing,
      offset: String(start),
    },
    `projection ${projection} goes on with partition ${partition} at ${start}, the log's end before ` +
      `its ${compared} accounts were compared with the feed: ${differing} were not as there`,
  )
}
