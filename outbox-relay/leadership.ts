import { openDirectProducer } from 'kafka/direct-producer'
import { type KafkaLog, type KafkaRecord, openProducer } from 'kafka/producer'
import type { Pool } from 'migrations/database'
import { orAborted } from 'service/backoff'
import type { Course } from './course.ts'
import { type Batch, type Cursor, defaultLimits, openCursor } from './cursor.ts'
import type { Lease } from './lease.ts'
import { type Names, namesOf } from './names.ts'
import type { Polling } from './polling.ts'
import type { Progress } from './progress.ts'
import { ProgressSaver } from './progress-saver.ts'
import { oneAtATime, ParkedAggregates, parkingFull } from './parking.ts'
import { type ReleaseOptions, releaseParked } from './parked-release.ts'
import { type Changes, loadParked } from './parking-table.ts'
import { openPublishing } from './publishing.ts'
import type { RelayOptions } from './relay.ts'
import {
  noteBatch,
  noteFailedAttempt,
  noteFailure,
  noteProgress,
  noteRefused,
  noteReleased,
  type Notes,
} from './relay-state.ts'
import { type AuditEntry, writeAudit } from './relay-table.ts'

// Twenty a second: a row written more often gets slow under a long snapshot.
const saveIntervalMs = 50

/** What the leader of one epoch works with, whatever its mode. */
export type Leadership = {
  pool: Pool
  lease: Lease
  names: Names
  /** Aborts when the process is to stop, or the mode is to be another. */
  stop: AbortSignal
  course: Course
  notes: Notes
  cursor: Cursor
  /** What no connector may begin beside. */
  parked: { readonly size: number }
  /** Aborts when the lease is lost, or a release has failed: then the leadership is to end. */
  lost: AbortSignal
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
  save: (epoch: string, changes: Changes) => Promise<boolean>
  /** Aborts when what is in flight is given up after a stop. */
  drained: AbortSignal
  onHealthy: () => void
}

/** The connection and the producer of one epoch; closed for good when it is disposed of. */
export async function openLeadership(
  options: LeadershipOptions,
): Promise<Leadership & AsyncDisposable> {
  const { config, pool, readers, lease, start, drained, onHealthy } = options
  const names = await namesOf(pool, lease)
  await using cleanup = new AsyncDisposableStack()
  const client = await readers.connect()
  cleanup.defer(() => client.release(true))
  const producer = cleanup.use(openLeadersProducer(options))
  const limits = { ...defaultLimits, rows: config.RELAY_BATCH_ROWS }
  const failed = new AbortController()
  const lost = AbortSignal.any([lease.lost, failed.signal])
  const cursor = untilLost(openCursor(client, limits), lost)
  const wanted = AbortSignal.any([lease.lost, drained])
  const now = () => performance.now()
  const parked = new ParkedAggregates(await loadParked(pool))
  if (parked.full) noteFailure(options, parkingFull())
  const saver = new ProgressSaver({
    saved: start,
    save: (changes) => options.save(lease.epoch, changes),
    intervalMs: saveIntervalMs,
    now,
  })
  const inTurn = oneAtATime()
  const publish = openPublishing({
    send: (records) => producer.publish(records, wanted),
    parked,
    inTurn,
    saver,
    onPublished(published) {
      onHealthy()
      noteBatch(options, published)
    },
    now,
  })
  const send = (records: readonly KafkaRecord[], ended: AbortSignal) =>
    producer.publish(records, AbortSignal.any([wanted, ended]))
  cleanup.use(openRelease(options, { parked, inTurn, saver, send, failed }))
  const kept = cleanup.move()
  return {
    pool,
    lease,
    names,
    stop: options.stop,
    course: options.course,
    notes: options,
    cursor,
    parked,
    lost,
    polling: {
      start,
      read: (progress) => (parked.full ? nothingRead(progress) : cursor.read(progress)),
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

/** While so much is parked that nothing new is to be published: there may be more, and nobody knows. */
async function nothingRead(progress: Progress): Promise<Batch> {
  const nothing = { rows: [], positions: [], payloadBytes: 0, complete: false }
  return { ...nothing, sentMs: performance.now(), before: progress, after: progress }
}

type ReleaseParts = Pick<ReleaseOptions, 'parked' | 'inTurn' | 'saver'> & {
  send: (records: readonly KafkaRecord[], ended: AbortSignal) => Promise<void>
  failed: AbortController
}

/** Releases beside whatever publishes. What it fails by ends the leadership: the next one knows the rest. */
function openRelease(options: LeadershipOptions, { send, failed, ...parts }: ReleaseParts) {
  const { pool, lease, me, stop, metrics } = options
  const closed = new AbortController()
  const releasing = releaseParked(
    {
      ...parts,
      db: pool,
      tenure: { epoch: lease.epoch, leader: me },
      send: (records) => send(records, closed.signal),
      onReleased: (aggregate) => noteReleased(options, aggregate),
      onSent: (rows) => metrics.records.inc(rows),
      onRefusedAgain: (refused) => noteRefused(options, refused),
    },
    AbortSignal.any([closed.signal, stop, lease.lost]),
  ).catch((error: unknown) => failed.abort(error))
  return {
    async [Symbol.asyncDispose]() {
      // After a stop what is in flight is finished, or given up by the producer's own signal.
      if (!stop.aborted) closed.abort(new Error('the leadership has ended'))
      await releasing
    },
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
