import { hostname } from 'node:os'
import { openDirectProducer } from 'kafka/direct-producer'
import { type KafkaLog, openProducer } from 'kafka/producer'
import type { Pool } from 'migrations/database'
import { backoffMs, orAborted, pause } from 'service/backoff'
import type { Log } from 'service/log'
import type { Config } from './config.ts'
import { defaultLimits, openCursor } from './cursor.ts'
import { isUnrecoverable } from './errors.ts'
import { awaitLease, type Lease } from './lease.ts'
import { poll } from './polling.ts'
import { ProgressSaver } from './progress-saver.ts'
import type { RelayMetrics } from './relay-metrics.ts'
import {
  noteBatch,
  noteFailedAttempt,
  noteFailure,
  noteLeading,
  noteProgress,
  type RelayState,
} from './relay-state.ts'
import { loadProgress, saveProgress } from './relay-table.ts'

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

// Twenty a second: a row written more often gets slow under a long snapshot.
const saveIntervalMs = 50
// After the stop, for what is in flight. Then it is given up, which at worst repeats it.
const drainMs = 5_000

/**
 * Leads and publishes, or stands by, until `stop` aborts. Postgres and Kafka being away is waited
 * for as long as it takes. Throws only what no waiting can mend (`isUnrecoverable`).
 */
export async function runRelay(options: RelayOptions): Promise<void> {
  const { log, stop } = options
  const me = `${hostname()}:${process.pid}:${crypto.randomUUID().slice(0, 8)}`
  const drained = afterStop(stop, drainMs)
  let failures = 0
  while (!stop.aborted) {
    try {
      await leadOnce({ ...options, me, drained, onHealthy: () => (failures = 0) })
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

type Leadership = RelayOptions & { me: string; drained: AbortSignal; onHealthy: () => void }

/** One leadership: waits for the lease, polls until it stops, fails or loses it, gives it back. */
async function leadOnce(leadership: Leadership): Promise<void> {
  const { config, pool, readers, log, stop, drained } = leadership
  const now = () => performance.now()
  await using lease = await awaitLease(
    {
      db: pool,
      me: leadership.me,
      leaseMs: config.RELAY_LEASE_MS,
      now,
      onRenewalFailed: (error) =>
        log.warn({ event: 'renewal_failed', err: error }, 'lease not renewed'),
    },
    stop,
  )
  if (lease === undefined) return
  using ended = new DisposableStack()
  ended.defer(() => noteLeading(leadership, lease, false))
  noteLeading(leadership, lease, true)
  await using reader = await openReader(readers)
  await using producer = openLeadersProducer(leadership, lease)
  const start = await loadProgress(pool)
  const cursor = openCursor(reader.client, { ...defaultLimits, rows: config.RELAY_BATCH_ROWS })
  const wanted = AbortSignal.any([lease.lost, drained])
  await poll({
    start,
    // On a half-open connection the statement would be waited for long after the lease is gone.
    read: (progress) => orAborted(cursor.read(progress), lease.lost),
    publish: (records) => producer.publish(records, wanted),
    saver: new ProgressSaver({
      saved: start,
      save: (changes) => saveProgress(pool, lease.epoch, changes),
      intervalMs: saveIntervalMs,
      now,
    }),
    assertHeld: () => lease.assertHeld(),
    onBatch: (batch, publishMs) => {
      leadership.onHealthy()
      noteBatch(leadership, batch, publishMs)
    },
    onIdle: (progress) => {
      leadership.onHealthy()
      noteProgress(leadership, progress)
    },
    busyMs: config.RELAY_POLL_BUSY_MS,
    idleMs: config.RELAY_POLL_IDLE_MS,
    now,
    stop,
  })
}

/** The cursor's own connection; closed for good afterwards, whatever it is doing. */
async function openReader(readers: Pool) {
  const client = await readers.connect()
  return { client, [Symbol.asyncDispose]: async () => client.release(true) }
}

function openLeadersProducer(leadership: Leadership, lease: Lease) {
  const { config, log } = leadership
  const kafkaLog: KafkaLog = ({ level, message, fields }) =>
    log[level]({ event: 'kafka', ...fields }, message)
  const open = config.KAFKA_PRODUCER === 'direct' ? openDirectProducer : openProducer
  return open({
    brokers: config.KAFKA_BROKERS,
    clientId: 'sluice-relay',
    log: kafkaLog,
    onFailedAttempt: ({ error }) => noteFailedAttempt(leadership, error),
    beforeRequest: () => lease.assertHeld(),
  })
}

/** Aborts `delayMs` after `stop` did. */
function afterStop(stop: AbortSignal, delayMs: number): AbortSignal {
  const controller = new AbortController()
  const abort = () => controller.abort(new Error('stopped while Kafka had not confirmed a batch'))
  stop.addEventListener('abort', () => setTimeout(abort, delayMs).unref(), { once: true })
  return controller.signal
}
