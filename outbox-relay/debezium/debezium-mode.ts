import { connectAnswers, resume } from 'connect/connector'
import { backoffMs } from 'service/backoff'
import type { Batch } from '../cursor.ts'
import { isUnrecoverable, RelayError, type RelayErrorCode } from '../errors.ts'
import { Handover } from '../handover.ts'
import type { Leadership } from '../leadership.ts'
import { Sweep } from '../leftovers.ts'
import { aggregatesParked } from '../parking.ts'
import { poll } from '../polling.ts'
import type { Progress } from '../progress.ts'
import { noteConnector, noteFailure, noteSlot, noteSource, noteWaiting } from '../relay-state.ts'
import { leaveConnector, WayToConnector } from './connector-entry.ts'
import type { Step } from '../switch-table.ts'
import type { Publication } from './publication.ts'
import { connectorLimitBytes } from './record-limit.ts'
import { WatchedConnector } from './watched-connector.ts'

// One leadership in debezium mode: polls until the handover, then a connector sends and this process
// only watches it. What the connector publishes beyond the last checkpoint, polling or a successor
// publishes again: each begins where everything before is confirmed, so whoever comes first with an
// event, it comes after all that precede it.

export type ConnectorMode = {
  brokers: readonly string[]
  cdcUrl: string
  connectUrl: string
  standstillMs: number
}

/** Why a connector cannot be used at present, as a sentence; undefined when Connect answers. */
export async function whyNoConnector(
  connectUrl: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const answers = await connectAnswers({ url: connectUrl, signal }).catch(() => false)
  const { origin } = new URL(connectUrl)
  return answers ? undefined : `mode debezium needs Kafka Connect, and none answers at ${origin}`
}

/** A connector that sent this long has shown that the next one is worth an early try. */
const steadyMs = 60_000
const againBackoff = { firstMs: 1_000, capMs: 60_000 }

/**
 * Returns when another mode is wanted or the process is to stop, with connector and slot removed as far
 * as that can be done soon. A connector that lost its slot is followed by another. Throws what polling
 * throws, and what the lease and the database do; the next leadership then begins as every other does.
 */
export async function leadByConnector(
  leadership: Leadership,
  mode: ConnectorMode,
): Promise<Progress> {
  let { start } = leadership.polling
  noteSource(leadership.notes, 'polling')
  for (let shortLived = 0; ;) {
    const begunMs = performance.now()
    const firstPauseMs = shortLived === 0 ? 0 : backoffMs(shortLived, againBackoff)
    const polling = { ...leadership.polling, start }
    const sent = await leadOnce({ ...leadership, polling }, { ...mode, firstPauseMs })
    start = sent.progress
    if (!sent.again || leadership.stop.aborted) return start
    shortLived = performance.now() - begunMs < steadyMs ? shortLived + 1 : 1
  }
}

/** What is published, and whether another connector is to follow. */
type Sent = { progress: Progress; again: boolean }

async function leadOnce(
  leadership: Leadership,
  { firstPauseMs, ...mode }: ConnectorMode & { firstPauseMs: number },
): Promise<Sent> {
  const { pool: db, lease, names, stop, notes, course, parked } = leadership
  const polling = { ...leadership.polling, start: await pollWhileParked(leadership, mode) }
  if (stop.aborted) return { progress: polling.start, again: false }
  const limitBytes = () => connectorLimitBytes(db, mode.brokers)
  const way = new WayToConnector({ ...mode, db, names, limitBytes })
  const step = (name: Step) => course.step(name)
  const waiting = (why: string, whose?: string) => noteWaiting(notes, why, whose)
  const handover = new Handover({ way, db, firstPauseMs, step, waiting, signal: lease.lost })
  let ends = false
  try {
    const until = (batch: Batch) => parked.size > 0 || handover.covers(batch)
    const start = await poll({ ...polling, until })
    if (stop.aborted) return { progress: start, again: false }
    // Nothing is retained for a connector that nobody knows when to begin.
    ends = parked.size > 0
    if (ends) return { progress: start, again: true }
    handover.take()
    const sent = await sendByConnector(leadership, { mode, publication: way.publication, start })
    ends = sent.again
    return sent
  } catch (error) {
    ends = isUnrecoverable(error) || lease.lost.aborted
    throw error
  } finally {
    await handover[Symbol.asyncDispose]()
    const onKept = (error: unknown) =>
      notes.log.warn({ event: 'leftovers_kept', err: error }, 'the next sender removes it')
    // Nothing is retained for a relay that is off, or waits. The next one begins by removing the rest.
    if (way.begun && (stop.aborted || ends)) await leaveConnector({ ...mode, names, step, onKept })
    noteConnector(notes, null)
    noteSlot(notes, null)
  }
}

type Handed = { mode: ConnectorMode; publication: Publication; start: Progress }

async function sendByConnector(leadership: Leadership, handed: Handed): Promise<Sent> {
  const { stop, lease, notes } = leadership
  const watched = watch(leadership, handed)
  try {
    await begin(leadership, handed.mode.connectUrl)
    await watched.run()
  } catch (error) {
    lease.lost.throwIfAborted()
    const { progress } = watched
    if (stop.aborted) return { progress, again: false }
    const why = (error as Error).message
    notes.metrics.streamLosses.inc()
    const ended = { action: 'stream_ended', before: 'debezium', after: 'polling', reason: why }
    // The epoch may be over, or the server away: the log of this process has it then.
    await leadership.audit(ended).catch(() => {})
    const again = hasCode(error, 'slot_lost', 'publication_unfit', 'connector_refused')
    if (!again && !hasCode(error, 'connector_lost')) throw error
    noteFailure(notes, error)
    if (again) {
      noteSource(notes, 'polling')
      noteWaiting(notes, `polling sends until the connector begins again: ${why}`)
      return { progress, again }
    }
    return { progress: await pollOn(leadership, { ...handed, start: progress, why }), again }
  }
  return { progress: watched.progress, again: false }
}

/** A connector would pass over what waits: until it is released, polling sends. */
async function pollWhileParked(
  { polling, lease, names, notes, parked }: Leadership,
  mode: ConnectorMode,
): Promise<Progress> {
  if (parked.size === 0) return polling.start
  noteSource(notes, 'polling')
  noteWaiting(notes, aggregatesParked(parked.size).message)
  await using beside = new AsyncDisposableStack()
  beside.use(new Sweep({ ...mode, lease, names, log: notes.log }))
  return await poll({ ...polling, until: () => parked.size === 0 })
}

/** Everything before is published and saved: the connector takes over. */
async function begin(
  { lease, names: { slot, connector }, audit, notes, stop, course }: Leadership,
  connectUrl: string,
): Promise<void> {
  await audit({
    action: 'stream_began',
    before: 'polling',
    after: 'debezium',
    reason: `slot ${slot} is handed over to connector ${connector}`,
  })
  await course.step('begin')
  await resume({ url: connectUrl, signal: AbortSignal.any([lease.lost, stop]) }, connector)
  noteSource(notes, 'debezium')
  await course.arrived('debezium')
}

function watch(
  { polling, pool, lease, names, stop, notes, cursor }: Leadership,
  { mode, publication, start }: Handed,
): WatchedConnector {
  return new WatchedConnector({
    connectUrl: mode.connectUrl,
    names,
    db: pool,
    cursor,
    start,
    publication,
    saver: polling.saver,
    assertHeld: () => lease.assertHeld(),
    onPassed(progress, rows) {
      notes.metrics.records.inc(rows)
      polling.onIdle(progress)
    },
    notes,
    standstillMs: mode.standstillMs,
    lost: lease.lost,
    stop,
  })
}

const hasCode = (error: unknown, ...codes: readonly RelayErrorCode[]) =>
  error instanceof RelayError && codes.includes(error.code)

/** From the last checkpoint, until another mode is asked for or another leadership begins. */
async function pollOn(
  leadership: Leadership,
  { mode, start, why }: Handed & { why: string },
): Promise<Progress> {
  const { polling, lease, names, notes } = leadership
  noteConnector(notes, null)
  noteSlot(notes, null)
  noteSource(notes, 'polling')
  noteWaiting(notes, `polling sends until another leadership begins: ${why}`)
  await using beside = new AsyncDisposableStack()
  beside.use(new Sweep({ ...mode, lease, names, log: notes.log }))
  // Awaited here: what is used is closed when this function returns.
  return await poll({ ...polling, start })
}
