import { hostname } from 'node:os'
import type { Pool } from 'migrations/database'
import { backoffMs, pause } from 'service/backoff'
import type { Log } from 'service/log'
import type { Config } from './config.ts'
import { Course } from './course.ts'
import { isUnrecoverable } from './errors.ts'
import { openLeadership } from './leadership.ts'
import { awaitLease, type Lease } from './lease.ts'
import { lead } from './lead.ts'
import { askedBy, whyNot } from './modes.ts'
import { type Changes, saveWithHeld } from './parking-table.ts'
import { type Progress, progressFrom } from './progress.ts'
import type { RelayMetrics } from './relay-metrics.ts'
import { noteFailure, noteLeading, noteRefusal, type RelayState } from './relay-state.ts'
import { loadProgress, resetProgress } from './relay-table.ts'
import { nothingSeen, type Seen, seenWith, stepBack } from './server-history.ts'
import { askForMode, readCourse } from './switch-table.ts'
import { whyNotNow } from './switching.ts'
import type { WalHistory } from './wal/wal-mode.ts'

export type RelayOptions = {
  config: Config
  /** For the lease, progress and status. */
  pool: Pool
  /** One connection, with the settings of `cursorSession`. */
  readers: Pool
  state: RelayState
  metrics: RelayMetrics
  log: Log
  stop: AbortSignal
}

// After the stop, for what is in flight. Then it is given up, which at worst repeats it.
const drainMs = 5_000
/** How often RELAY_MODE asks again for what was refused. */
const askIntervalMs = 5_000

/** What one process knows beside the tables. */
type Memory = {
  /** What it saw of outbox.relay, which only a restore takes back. */
  seen: Seen
  wal: WalHistory
}

type Attempt = RelayOptions & {
  me: string
  drained: AbortSignal
  onHealthy: () => void
  memory: Memory
}

/**
 * Leads and publishes, or stands by, until `stop` aborts. Postgres and Kafka being away is waited
 * for as long as it takes. Throws only what no waiting can mend (`isUnrecoverable`).
 */
export async function runRelay(options: RelayOptions): Promise<void> {
  const { log, stop } = options
  const me = `${hostname()}:${process.pid}:${crypto.randomUUID().slice(0, 8)}`
  const drained = afterStop(stop, drainMs)
  const memory: Memory = { seen: nothingSeen, wal: { shortLived: 0 } }
  let failures = 0
  while (!stop.aborted) {
    try {
      await leadOnce({ ...options, me, drained, memory, onHealthy: () => (failures = 0) })
    } catch (error) {
      noteFailure(options, error)
      if (isUnrecoverable(error)) throw error
      failures += 1
      const waitMs = Math.round(backoffMs(failures, { firstMs: 100, capMs: 5_000 }))
      const level = waitMs > 1_000 ? 'error' : 'warn'
      log[level]({ event: 'relay_retries', err: error, failures, waitMs }, 'the relay tries again')
      await pause(waitMs, stop)
    }
  }
}

/** One leadership: waits for the lease, publishes until it stops, fails or loses it, gives it back. */
async function leadOnce(attempt: Attempt): Promise<void> {
  const { config, pool, log, stop, memory } = attempt
  const now = () => performance.now()
  await using lease = await awaitLease(
    {
      db: pool,
      me: attempt.me,
      leaseMs: config.RELAY_LEASE_MS,
      now,
      onRenewalFailed: (error) =>
        log.warn({ event: 'renewal_failed', err: error }, 'lease not renewed'),
      onRow: (row) => (memory.seen = seenWith(memory.seen, row)),
    },
    stop,
  )
  if (lease === undefined) return
  using ended = new DisposableStack()
  ended.defer(() => noteLeading(attempt, lease, false))
  noteLeading(attempt, lease, true)
  const start = await trustedProgress(attempt, lease)
  await using _ = await askByVariable(attempt, lease)
  await using course = await openCourse(attempt, lease)
  const save = async (epoch: string, changes: Changes) => {
    const saved = await saveWithHeld(pool, { epoch, leader: attempt.me }, changes)
    if (saved) memory.seen = { ...memory.seen, next: changes.next }
    return saved
  }
  await using leadership = await openLeadership({ ...attempt, lease, course, start, save })
  // Awaited here: what is used is closed when this function returns.
  await lead(leadership, { config, history: memory.wal })
}

/** Progress as saved, unless the server has lost commits since: then everything is to be read again. */
async function trustedProgress(attempt: Attempt, lease: Lease): Promise<Progress> {
  const { pool, log, metrics, memory } = attempt
  const progress = await loadProgress(pool)
  const reason = stepBack(lease.row, progress, memory.seen)
  if (reason === undefined) return progress
  metrics.stepBacks.inc()
  log.error(
    { event: 'step_back', next: String(progress.next), reason },
    `${reason}. Commits that were published may be lost, and their positions drawn again: ` +
      'everything retained is published again. Compare the write side with the topics',
  )
  const timeline = lease.row.serverTimeline
  await resetProgress(pool, lease.epoch, { actor: attempt.me, reason, timeline })
  memory.seen = seenWith(nothingSeen, lease.row)
  return progressFrom(1n, [])
}

/**
 * RELAY_MODE asks as anybody may. What is away refuses it, and may only be slower to start than this
 * process: it is asked again beside the leadership, until somebody asks for another mode.
 */
async function askByVariable(attempt: Attempt, lease: Lease): Promise<AsyncDisposable> {
  const { config, pool, me, stop } = attempt
  const closed = new AbortController()
  const ended = AbortSignal.any([closed.signal, lease.lost, stop])
  const mode = askedBy(config.RELAY_MODE, lease.row)
  const ask = async () => {
    if (mode === undefined) return undefined
    const refusal = await whyNotNow(mode, config, ended)
    if (refusal !== undefined) return refusal
    const reason = `RELAY_MODE is ${mode}`
    await askForMode(pool, { mode, actor: me, reason, epoch: lease.epoch })
    return undefined
  }
  const keepAsking = async () => {
    for (;;) {
      await pause(askIntervalMs, ended)
      if (ended.aborted) return
      try {
        const course = await readCourse(pool)
        if (course.mode !== lease.row.mode || course.switching !== null) return
        if ((await ask()) === undefined) return
      } catch {
        // The lease tells when the server is away for long.
      }
    }
  }
  const refusal = await ask()
  if (refusal !== undefined) noteRefusal(attempt, `${refusal}: the mode stays ${lease.row.mode}`)
  const asking = refusal === undefined ? undefined : keepAsking()
  return {
    async [Symbol.asyncDispose]() {
      closed.abort()
      await asking
    },
  }
}

async function openCourse({ config, pool, ...notes }: Attempt, lease: Lease): Promise<Course> {
  return new Course({
    db: pool,
    lease,
    row: await readCourse(pool),
    whyNot: (mode) => whyNot(mode, config),
    refused: (why) => noteRefusal(notes, why),
    waitingFor: () => notes.state.waitingFor,
  })
}

/** Aborts `delayMs` after `stop` did. */
function afterStop(stop: AbortSignal, delayMs: number): AbortSignal {
  const controller = new AbortController()
  const abort = () => controller.abort(new Error('stopped while Kafka had not confirmed a batch'))
  stop.addEventListener('abort', () => setTimeout(abort, delayMs).unref(), { once: true })
  return controller.signal
}
