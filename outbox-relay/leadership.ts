import { openDirectProducer } from 'kafka/direct-producer'
import { type KafkaLog, openProducer } from 'kafka/producer'
import type { Pool } from 'migrations/database'
import { orAborted } from 'service/backoff'
import type { Course } from './course.ts'
import { type Cursor, defaultLimits, openCursor } from './cursor.ts'
import type { Lease } from './lease.ts'
import type { Polling } from './polling.ts'
import type { Progress } from './progress.ts'
import { ProgressSaver } from './progress-saver.ts'
import { openPublishing } from './publishing.ts'
import type { RelayOptions } from './relay.ts'
import { noteBatch, noteFailedAttempt, noteProgress, type Notes } from './relay-state.ts'
import { type AuditEntry, type ProgressChanges, writeAudit } from './relay-table.ts'

// Twenty a second: a row written more often gets slow under a long snapshot.
const saveIntervalMs = 50

/** What the leader of one epoch works with, whatever its mode. */
export type Leadership = {
  pool: Pool
  lease: Lease
  /** Aborts when the process is to stop, or the mode is to be another. */
  stop: AbortSignal
  course: Course
  notes: Notes
  cursor: Cursor
  /** Everything that polling needs; any mode begins by it. */
  polling: Polling & { batchRows: number }
  /** Written under this epoch. Throws `progress_fenced` when it is over. */
  audit: (entry: Omit<AuditEntry, 'actor'>) => Promise<void>
}

export type LeadershipOptions = RelayOptions & {
  me: string
  lease: Lease
  course: Course
  start: Progress
  /** False when the epoch is over. */
  save: (epoch: string, changes: ProgressChanges) => Promise<boolean>
  /** Aborts when what is in flight is given up after a stop. */
  drained: AbortSignal
  onHealthy: () => void
}

/** The connection and the producer of one epoch; closed for good when it is disposed of. */
export async function openLeadership(
  options: LeadershipOptions,
): Promise<Leadership & AsyncDisposable> {
  const { config, pool, readers, lease, start, drained, onHealthy } = options
  await using cleanup = new AsyncDisposableStack()
  const client = await readers.connect()
  cleanup.defer(() => client.release(true))
  const producer = cleanup.use(openLeadersProducer(options))
  const limits = { ...defaultLimits, rows: config.RELAY_BATCH_ROWS }
  const cursor = untilLost(openCursor(client, limits), lease.lost)
  const wanted = AbortSignal.any([lease.lost, drained])
  const now = () => performance.now()
  const saver = new ProgressSaver({
    saved: start,
    save: (changes) => options.save(lease.epoch, changes),
    intervalMs: saveIntervalMs,
    now,
  })
  const publish = openPublishing({
    send: (records) => producer.publish(records, wanted),
    saver,
    onPublished(published) {
      onHealthy()
      noteBatch(options, published)
    },
    now,
  })
  const kept = cleanup.move()
  return {
    pool,
    lease,
    stop: options.stop,
    course: options.course,
    notes: options,
    cursor,
    polling: {
      start,
      read: (progress) => cursor.read(progress),
      publish,
      saver,
      assertHeld: () => lease.assertHeld(),
      onIdle(progress) {
        onHealthy()
        noteProgress(options, progress)
      },
      busyMs: config.RELAY_POLL_BUSY_MS,
      idleMs: config.RELAY_POLL_IDLE_MS,
      batchRows: config.RELAY_BATCH_ROWS,
      stop: options.stop,
    },
    audit: (entry) => writeAudit(pool, lease.epoch, { actor: options.me, ...entry }),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

/** On a half-open connection the statement would be waited for long after the lease is gone. */
function untilLost(cursor: Cursor, lost: AbortSignal): Cursor {
  return {
    read: (progress) => orAborted(cursor.read(progress), lost),
    proveGaps: (progress) => orAborted(cursor.proveGaps(progress), lost),
    visible: (progress) => orAborted(cursor.visible(progress), lost),
  }
}

function openLeadersProducer({ config, log, lease, ...notes }: LeadershipOptions) {
  const kafkaLog: KafkaLog = ({ level, message, fields }) =>
    log[level]({ event: 'kafka', ...fields }, message)
  const open = config.KAFKA_PRODUCER === 'direct' ? openDirectProducer : openProducer
  return open({
    brokers: config.KAFKA_BROKERS,
    clientId: 'sluice-relay',
    log: kafkaLog,
    onFailedAttempt: ({ error }) => noteFailedAttempt({ log, ...notes }, error),
    beforeRequest: () => lease.assertHeld(),
  })
}
