import type { Log } from 'service/log'
import { defaultLimits } from './cursor.ts'
import type { Lease } from './lease.ts'
import type { Mode } from './modes.ts'
import { type Aggregate, type Refused, refusalText } from './parking.ts'
import type { Progress } from './progress.ts'
import type { RelayMetrics } from './relay-metrics.ts'
import type { OutboxRow } from './wire.ts'

type LastBatch = {
  rows: number
  payloadBytes: number
  firstPosition: string
  lastPosition: string
  publishMs: number
  /** RFC 3339. */
  at: string
}

/** The slot in use, as the server has it. */
export type SlotState = {
  name: string
  /** When lost with the server's reason, such as `lost (wal_removed)`. */
  walStatus: string
  /** Bytes of log that the server keeps for it. */
  retainedBytes: number
  confirmedFlush: string | null
  /** Bytes of log before it is beyond `max_slot_wal_keep_size`; null without such a limit. */
  safeBytes: number | null
}

/** A connector that sends, as Kafka Connect has it. */
export type ConnectorSeen = {
  name: string
  /** Kafka Connect's word, or `away` or `missing`. */
  state: string
  tasks: string[]
  /** When the last checkpoint was passed, of `performance.now`. */
  passedMs: number
  standsStill: boolean
}

type LastError = { code: string; message: string; at: string }

/** What this process is doing, for `GET /relay` and the metrics. One per process, changed in place. */
export type RelayState = {
  leading: boolean
  /** What sends at present: while `wal` or `debezium` cannot, or not yet, polling does. */
  source: Mode
  /** Why the source is another than the mode, or what it takes so long. */
  waitingFor: string | null
  slot: SlotState | null
  connector: ConnectorSeen | null
  /** Of the present or last leadership of this process. */
  epoch: string | null
  /** As read, which is ahead of what is saved. */
  next: bigint
  openGaps: number
  lastBatch: LastBatch | null
  lastError: LastError | null
}

export function newRelayState(): RelayState {
  return {
    leading: false,
    source: 'polling',
    waitingFor: null,
    slot: null,
    connector: null,
    epoch: null,
    next: 0n,
    openGaps: 0,
    lastBatch: null,
    lastError: null,
  }
}

/** Where the relay's doings are noted. */
export type Notes = { state: RelayState; metrics: RelayMetrics; log: Log }

export function noteLeading({ state, log }: Notes, { epoch }: Lease, leading: boolean): void {
  Object.assign(state, { leading, epoch })
  if (leading) log.info({ event: 'leading', epoch }, `leading, epoch ${epoch}`)
  else log.info({ event: 'leading_ended', epoch }, 'not leading any more')
}

/** Rows that Kafka confirmed together, and those of them all that it refused. */
export type Published = {
  rows: readonly OutboxRow[]
  refused: readonly Refused[]
  publishMs: number
  after: Progress
}

export function noteBatch(notes: Notes, { rows, refused, publishMs, after }: Published): void {
  const { metrics, state } = notes
  for (const each of refused) noteRefused(notes, each)
  noteProgress(notes, after)
  if (rows.length === 0) return
  const payloadBytes = rows.reduce((sum, row) => sum + Buffer.byteLength(row[12]), 0)
  metrics.records.inc(rows.length)
  metrics.payloadBytes.inc(payloadBytes)
  metrics.batches.inc()
  metrics.publishSeconds.observe(publishMs / 1_000)
  state.lastBatch = {
    rows: rows.length,
    payloadBytes,
    firstPosition: rows[0]?.[0] ?? '',
    lastPosition: rows.at(-1)?.[0] ?? '',
    publishMs: Math.round(publishMs * 10) / 10,
    at: new Date().toISOString(),
  }
}

/** An event that Kafka will not have: its aggregate is parked. */
export function noteRefused({ state, metrics, log }: Notes, refused: Refused): void {
  const text = refusalText(refused)
  const [position, id, aggregateType, aggregateId, version] = refused.row
  metrics.refusedEvents.inc()
  log.error({ event: 'event_refused', position, id, aggregateType, aggregateId, version }, text)
  state.lastError = lastError('event_refused', text)
}

/** Nothing of it waits any more. */
export function noteReleased({ log }: Notes, aggregate: Aggregate): void {
  log.info({ event: 'aggregate_released', ...aggregate }, 'released: nothing of it waits any more')
}

/** Another sender than before. */
export function noteSource({ state, log }: Notes, source: Mode): void {
  if (state.source !== source) log.info({ event: 'source_changed', source }, `${source} sends now`)
  Object.assign(state, { source, waitingFor: null })
}

/** Logged once per reason, whoever is to blame at the moment. */
export function noteWaiting({ state, log }: Notes, why: string, whose?: string): void {
  const waitingFor = whose === undefined ? why : `${why} (${whose})`
  const known = state.waitingFor?.startsWith(why) === true
  state.waitingFor = waitingFor
  if (!known) log.warn({ event: 'waiting', source: state.source }, waitingFor)
}

export function noteProgress({ state, log }: Notes, { next, gaps }: Progress): void {
  const { openGaps } = defaultLimits
  if (gaps.length > openGaps && state.openGaps <= openGaps) {
    log.error(
      { event: 'gap_limit_reached', gaps: gaps.length },
      'too many open gaps: nothing new is published until some close. A transaction that wrote to ' +
        'outbox.events is open; find it in pg_stat_activity or pg_prepared_xacts and end it',
    )
  }
  Object.assign(state, { next, openGaps: gaps.length })
}

export function noteSlot({ state }: Notes, slot: SlotState | null): void {
  state.slot = slot
}

export function noteConnector({ state }: Notes, connector: ConnectorSeen | null): void {
  state.connector = connector
}

/** A connector that looks well, or does not, and has not moved. */
export function noteStandstill({ state, metrics, log }: Notes, what: string): void {
  metrics.standstills.inc()
  log.error({ event: 'standstill' }, what)
  state.lastError = lastError('standstill', what)
}

/** A mode that was asked for and cannot be. */
export function noteRefusal({ state, log }: Notes, reason: string): void {
  log.error({ event: 'mode_refused' }, reason)
  state.lastError = lastError('mode_refused', reason)
}

/** A batch that Kafka has not taken yet; it is sent again. */
export function noteFailedAttempt({ state, metrics }: Notes, error: unknown): void {
  metrics.failedAttempts.inc()
  state.lastError = lastError('publish_failed', error)
}

/** The end of a leadership, of the wait for one, or of a connector. */
export function noteFailure({ state, metrics }: Notes, error: unknown): void {
  const code = codeOf(error)
  metrics.failures.inc({ code })
  state.lastError = lastError(code, error)
}

function lastError(code: string, error: unknown): LastError {
  const message = error instanceof Error ? error.message : String(error)
  return { code, message, at: new Date().toISOString() }
}

/** An error's stable code; those of libraries (ECONNREFUSED, 57P01) are stable too. */
function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : 'unknown'
}
