import { connectAnswers, resume } from 'connect/connector'
import type { Batch } from '../cursor.ts'
import { isUnrecoverable, RelayError } from '../errors.ts'
import type { Leadership } from '../leadership.ts'
import { aggregatesParked } from '../parking.ts'
import { poll } from '../polling.ts'
import type { Progress } from '../progress.ts'
import { noteConnector, noteSlot, noteSource, noteWaiting } from '../relay-state.ts'
import { ConnectorEntry, leaveConnector } from './connector-entry.ts'
import { Sweep } from './leftovers.ts'
import { type Names, namesOf } from '../names.ts'
import { WatchedConnector } from './watched-connector.ts'

// One leadership in debezium mode: polls until the handover, then a connector sends and this process
// only watches it. What the connector publishes beyond the last checkpoint, polling or a successor
// publishes again: each begins where everything before is confirmed, so whoever comes first with an
// event, it comes after all that precede it.

export type ConnectorMode = { cdcUrl: string; connectUrl: string; standstillMs: number }

/** Why a connector cannot be used at present, as a sentence; undefined when Connect answers. */
export async function whyNoConnector(
  connectUrl: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const answers = await connectAnswers({ url: connectUrl, signal }).catch(() => false)
  const { origin } = new URL(connectUrl)
  return answers ? undefined : `mode debezium needs Kafka Connect, and none answers at ${origin}`
}

/**
 * Returns when the process is to stop, with connector and slot removed. Throws what polling throws, and
 * what the lease and the database do; the next leadership then begins as every other does.
 */
export async function leadByConnector(leadership: Leadership, mode: ConnectorMode): Promise<void> {
  const { pool, lease, stop, notes, parked } = leadership
  const polling = { ...leadership.polling, start: await pollWhileParked(leadership, mode) }
  if (stop.aborted) return
  const assertHeld = () => lease.assertHeld()
  const names = await namesOf(pool, lease)
  noteSource(notes, 'polling')
  const entry = new ConnectorEntry({
    ...mode,
    db: pool,
    names,
    assertHeld,
    waiting: (why) => noteWaiting(notes, why),
    signal: lease.lost,
  })
  let ends = false
  try {
    const until = (batch: Batch) => parked.size > 0 || entry.covers(batch)
    const start = await poll({ ...polling, until })
    if (stop.aborted) return
    // Nothing is retained for a connector that nobody knows when to begin.
    if (parked.size > 0) throw aggregatesParked(parked.size)
    const watched = watch(leadership, { mode, names, start })
    try {
      await begin(leadership, mode, names)
      return await watched.run()
    } catch (error) {
      if (stop.aborted) throw error
      const why = (error as Error).message
      notes.metrics.streamLosses.inc()
      const ended = { action: 'stream_ended', before: 'debezium', after: 'polling', reason: why }
      // The epoch may be over, or the server away: the log of this process has it then.
      await leadership.audit(ended).catch(() => {})
      if (!willNotSend(error)) throw error
      await pollOn(leadership, { mode, start: watched.progress, why })
    }
  } catch (error) {
    ends = isUnrecoverable(error)
    throw error
  } finally {
    await entry[Symbol.asyncDispose]()
    const onKept = (error: unknown) =>
      notes.log.warn({ event: 'leftovers_kept', err: error }, 'the next leader removes it')
    // Nothing is retained for a relay that is off. One that goes on begins by removing it.
    if (entry.begun && (stop.aborted || ends)) {
      await leaveConnector({ ...mode, names, assertHeld, lost: lease.lost, onKept })
    }
    noteConnector(notes, null)
    noteSlot(notes, null)
  }
}

/** A connector would pass over what waits: until it is released, polling sends. */
async function pollWhileParked(
  { polling, pool: db, lease, notes, parked }: Leadership,
  mode: ConnectorMode,
): Promise<Progress> {
  if (parked.size === 0) return polling.start
  noteSource(notes, 'polling')
  noteWaiting(notes, aggregatesParked(parked.size).message)
  await using beside = new AsyncDisposableStack()
  beside.use(new Sweep({ ...mode, db, lease, log: notes.log, own: false }))
  return await poll({ ...polling, until: () => parked.size === 0 })
}

/** Everything before is published and saved: the connector takes over. */
async function begin(
  { lease, audit, notes, stop }: Leadership,
  { connectUrl }: ConnectorMode,
  { slot, connector }: Names,
): Promise<void> {
  await audit({
    action: 'stream_began',
    before: 'polling',
    after: 'debezium',
    reason: `slot ${slot} is handed over to connector ${connector}`,
  })
  lease.assertHeld()
  await resume({ url: connectUrl, signal: AbortSignal.any([lease.lost, stop]) }, connector)
  noteSource(notes, 'debezium')
}

function watch(
  { polling, pool, lease, stop, notes, cursor }: Leadership,
  { mode, names, start }: { mode: ConnectorMode; names: Names; start: Progress },
): WatchedConnector {
  return new WatchedConnector({
    connectUrl: mode.connectUrl,
    names,
    db: pool,
    cursor,
    start,
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

function willNotSend(error: unknown): boolean {
  return (
    error instanceof RelayError && (error.code === 'slot_lost' || error.code === 'connector_lost')
  )
}

/** For the rest of this leadership, from the last checkpoint. The next one tries a connector again. */
async function pollOn(
  leadership: Leadership,
  { mode, start, why }: { mode: ConnectorMode; start: Progress; why: string },
): Promise<void> {
  const { polling, pool: db, lease, notes } = leadership
  noteConnector(notes, null)
  noteSlot(notes, null)
  noteSource(notes, 'polling')
  noteWaiting(notes, `polling sends until another leadership begins: ${why}`)
  await using beside = new AsyncDisposableStack()
  beside.use(new Sweep({ ...mode, db, lease, log: notes.log, own: true }))
  await poll({ ...polling, start })
}
