import { openPool, type Pool, sqlStateOf } from 'migrations/database'
import { createTask, type TaskOptions } from 'node-cron'
import { backoffMs, orAborted, pause, settledWithin } from 'service/backoff'
import type { Log } from 'service/log'
import { onWallClock } from 'service/wall-clock'
import { type Config, retentionOf } from '../config.ts'
import type { Queryable } from '../text-query.ts'
import { Election } from './election.ts'
import {
  decideRetirement,
  detachPartition,
  dropDetached,
  holdPartition,
  makePartition,
  nameOf,
  readPartitions,
  recordPublished,
} from './partitions.ts'
import {
  alarmsOf,
  type Partition,
  type RetentionSettings,
  toHold,
  toMake,
  toRetire,
} from './plan.ts'

/** What one run did. */
export type Run = {
  made: string[]
  retired: string[]
  held: string[]
  /** What a lock was not to be had for, in time; the next run tries again. */
  heldBack: string[]
}

export type RunOptions = {
  db: Queryable
  settings: RetentionSettings
  /** Asked before each step. Rejects when another process maintains by now. */
  assertElected: () => Promise<void>
  signal: AbortSignal
}

/**
 * Makes the partitions that are missing ahead, finishes what a run before began, and retires what may
 * go. Whatever it is cut off at, the next run takes up.
 */
export async function maintain(options: RunOptions): Promise<Run> {
  const { db, settings } = options
  const { retentionSeconds } = settings
  const run: Run = { made: [], retired: [], held: [], heldBack: [] }
  const read = () => readPartitions(db, retentionSeconds)
  for (const range of toMake(await read(), settings)) {
    if (!(await locked(options, () => makePartition(db, range)))) {
      run.heldBack.push(nameOf(range))
      break
    }
    run.made.push(nameOf(range))
  }
  await recordPublished(db, await read())
  const partitions = await read()
  for (const partition of toHold(partitions)) {
    await options.assertElected()
    await holdPartition(db, partition)
    run.held.push(partition.name)
  }
  for (const partition of toRetire(partitions, settings)) {
    if (options.signal.aborted) break
    if (!(await retire(options, partition))) {
      // It is pending, and beside it no other can be detached.
      run.heldBack.push(partition.name)
      break
    }
    run.retired.push(partition.name)
  }
  return run
}

/** False when it is still there. */
async function retire(options: RunOptions, partition: Partition): Promise<boolean> {
  const { db, settings } = options
  const { name } = partition
  if (partition.state === 'attached') {
    await options.assertElected()
    await decideRetirement(db, partition)
  }
  const detached = await locked(options, async () => {
    // A detach that was cut off has left it pending.
    const { all } = await readPartitions(db, settings.retentionSeconds)
    const present = all.find((each) => each.name === name)
    if (present !== undefined) await detachPartition(db, present)
  })
  if (!detached) return false
  let dropped = false
  await locked(options, async () => {
    dropped = await dropDetached(db, name, settings.retentionSeconds)
  })
  return dropped
}

const attempts = 5

/** A lock that is not to be had in time, a statement that took too long, a deadlock. */
const passing = new Set(['55P03', '57014', '40P01'])

/** False when the locks were not to be had, again and again. */
async function locked(
  { assertElected, signal }: RunOptions,
  work: () => Promise<void>,
): Promise<boolean> {
  for (let failures = 1; ; failures += 1) {
    await assertElected()
    try {
      await work()
      return true
    } catch (error) {
      if (!passing.has(sqlStateOf(error) ?? '')) throw error
      if (failures === attempts || signal.aborted) return false
      await pause(backoffMs(failures, { firstMs: 100, capMs: 2_000 }), signal)
    }
  }
}

/** What the last runs of this process did, for `GET /relay` and the metrics. Changed in place. */
export type MaintenanceState = {
  last: (Run & { at: string }) | null
  made: number
  retired: number
  failures: number
}

export const newMaintenanceState = (): MaintenanceState => ({
  last: null,
  made: 0,
  retired: 0,
  failures: 0,
})

type Notes = { state: MaintenanceState; log: Log }

/** A session of maintenance. Commands never wait for its locks; it never waits long for theirs. */
export const maintenanceSession = {
  lock_timeout: '1s',
  statement_timeout: '10s',
  // Longer than any one step.
  idle_in_transaction_session_timeout: '20s',
} as const

/** How long a stop waits for the step in hand. Then it is cut off, which the next run takes up. */
const patienceMs = 2_000

/** Maintenance by schedule, until it is disposed of; none where its role's address is not given. */
export function openMaintenance(config: Config, notes: Notes): AsyncDisposable | undefined {
  const { MAINTENANCE_DATABASE_URL: url, MAINTENANCE_SCHEDULE: schedule } = config
  const { log } = notes
  if (url === undefined) {
    const text = 'no MAINTENANCE_DATABASE_URL: another relay has to make and retire partitions'
    log.warn({ event: 'no_maintenance' }, text)
    return undefined
  }
  const pool = openPool({
    url,
    applicationName: 'sluice-maintenance',
    maxConnections: 2,
    settings: maintenanceSession,
    queryTimeoutMs: 15_000,
    onError: (err) => log.warn({ event: 'connection_lost', err }, 'connection lost'),
  })
  const election = new Election(pool)
  const stopped = new AbortController()
  const cutOff = new AbortController()
  let running: Promise<void> = Promise.resolve()
  const settings = retentionOf(config)
  const turn = { pool, election, settings, stop: stopped.signal, cutOff: cutOff.signal }
  const run = () => (running = running.then(() => runOnce(turn, notes)))
  const ticking = onWallClock(() => {
    const task = createTask(schedule, run, { ...taskOptions(log), runCoordinator: election })
    void task.start()
    return task
  })
  return {
    async [Symbol.asyncDispose]() {
      await ticking[Symbol.asyncDispose]()
      stopped.abort()
      await settledWithin(running, patienceMs)
      cutOff.abort(new Error('maintenance is stopped'))
      await running
      await pool.end()
    },
  }
}

type Turn = {
  pool: Pool
  election: Election
  settings: RetentionSettings
  stop: AbortSignal
  cutOff: AbortSignal
}

async function runOnce(turn: Turn, notes: Notes): Promise<void> {
  const { pool, settings, stop, cutOff } = turn
  const { state, log } = notes
  if (stop.aborted) return
  try {
    noteRun(notes, await orAborted(onConnection(turn), cutOff))
  } catch (error) {
    if (cutOff.aborted) return
    state.failures += 1
    log.error({ event: 'maintenance_failed', err: error }, 'maintenance of the outbox failed')
  }
  // Also when it failed: that is when partitions become few.
  const partitions = await readPartitions(pool, settings.retentionSeconds).catch(() => undefined)
  if (partitions === undefined) return
  for (const { code, isCritical, text } of alarmsOf(partitions, settings)) {
    log[isCritical ? 'error' : 'warn']({ event: 'partition_alarm', code }, text)
  }
}

/** One run on a connection of its own, which is closed after a failure, and when it is cut off. */
async function onConnection({ pool, election, settings, stop, cutOff }: Turn): Promise<Run> {
  const client = await pool.connect()
  const close = () => client.release(true)
  cutOff.addEventListener('abort', close, { once: true })
  try {
    const assertElected = () => election.assertElected()
    const run = await maintain({ db: client, settings, assertElected, signal: stop })
    if (!cutOff.aborted) client.release()
    return run
  } catch (error) {
    if (!cutOff.aborted) close()
    throw error
  } finally {
    cutOff.removeEventListener('abort', close)
  }
}

function taskOptions(log: Log): TaskOptions {
  const say = (level: 'info' | 'warn' | 'debug') => (message: string | Error, err?: Error) =>
    log[level]({ event: 'maintenance_schedule', err }, String(message))
  return {
    name: 'outbox-maintenance',
    distributed: true,
    noOverlap: true,
    // A process that was busy or asleep for longer than this waits for the next time.
    missedExecutionTolerance: 30_000,
    logger: { info: say('info'), warn: say('warn'), error: say('warn'), debug: say('debug') },
  }
}

function noteRun({ state, log }: Notes, run: Run): void {
  state.last = { ...run, at: new Date().toISOString() }
  state.made += run.made.length
  state.retired += run.retired.length
  const { made, retired, held, heldBack } = run
  if (made.length + retired.length > 0) {
    log.info(
      { event: 'partitions_maintained', made, retired },
      `${made.length} partitions made, ${retired.length} retired`,
    )
  }
  if (held.length > 0) {
    log.error(
      { event: 'partitions_held', held },
      'progress stepped back into what was being retired',
    )
  }
  if (heldBack.length > 0) {
    log.warn(
      { event: 'partitions_held_back', heldBack },
      'locks were not to be had: an old transaction uses outbox.events. Tried again by the next run',
    )
  }
}
