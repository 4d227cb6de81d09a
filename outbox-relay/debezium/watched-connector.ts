import { type Connect, listConnectors, restartFailed, status } from 'connect/connector'
import { pause } from 'service/backoff'
import type { Cursor } from '../cursor.ts'
import { RelayError } from '../errors.ts'
import { afterProof, afterPublishing, type Progress } from '../progress.ts'
import {
  noteConnector,
  noteSlot,
  noteSource,
  noteStandstill,
  noteWaiting,
  type Notes,
} from '../relay-state.ts'
import type { Queryable } from '../text-query.ts'
import { checkSlot, readSlot } from '../wal/slot.ts'
import {
  type Checkpoint,
  hasPassed,
  type Standing,
  standingOf,
  standsStillMs,
  takeCheckpoint,
} from './checkpoint.ts'
import {
  afterPassing,
  afterSighting,
  healthy,
  type Health,
  type Sighting,
} from './connector-health.ts'
import type { Names } from '../names.ts'
import { type Publication, requireSamePublication } from './publication.ts'

export type Watched = {
  connectUrl: string
  names: Names
  db: Queryable
  cursor: Pick<Cursor, 'visible' | 'proveGaps'>
  start: Progress
  /** As it was before there was a slot. */
  publication: Publication
  saver: { offer(confirmed: Progress): void; flush(): Promise<void> }
  /** Throws when the lease is not held. */
  assertHeld: () => void
  onPassed: (progress: Progress, rows: number) => void
  notes: Notes
  /** Without any movement for so long, with something to pass, it is said loudly. */
  standstillMs: number
  /** Of the lease. */
  lost: AbortSignal
  stop: AbortSignal
}

const checkpointIntervalMs = 1_000
const slotIntervalMs = 200
const statusIntervalMs = 1_000

/** A connector that sends, and what makes sure that it does. */
export class WatchedConnector {
  readonly #watched: Watched
  readonly #failed = new AbortController()
  readonly #ended: AbortSignal
  readonly #connect: Connect
  #progress: Progress
  #pending: Checkpoint | undefined
  #takenMs = -Infinity
  #passedMs = performance.now()
  #standing: Standing | undefined
  #health: Health = healthy
  #sighting: Sighting = 'away'
  #standsStill = false

  constructor(watched: Watched) {
    this.#watched = watched
    this.#progress = watched.start
    this.#ended = AbortSignal.any([this.#failed.signal, watched.stop, watched.lost])
    this.#connect = { url: watched.connectUrl, signal: this.#ended }
  }

  /** As of the last checkpoint that was passed. */
  get progress(): Progress {
    return this.#progress
  }

  /**
   * Watches until `stop` aborts; then progress is saved. Throws `slot_lost`, `connector_lost`,
   * `connector_refused` and `publication_unfit` when the connector will not send any more, or not all, and what the lease, the database or saving throws.
   */
  async run(): Promise<void> {
    const { saver, stop, lost } = this.#watched
    const loops = [
      this.#every(slotIntervalMs, () => this.#checkpoint()),
      this.#every(statusIntervalMs, () => this.#look()),
    ]
    await Promise.all(
      loops.map((loop) => loop.catch((error: unknown) => this.#failed.abort(error))),
    )
    lost.throwIfAborted()
    await saver.flush()
    if (!stop.aborted) this.#failed.signal.throwIfAborted()
  }

  async #every(intervalMs: number, work: () => Promise<void>): Promise<void> {
    while (!this.#ended.aborted) {
      await work()
      await pause(intervalMs, this.#ended)
    }
  }

  async #checkpoint(): Promise<void> {
    const { db, cursor, names, notes } = this.#watched
    if (this.#pending === undefined) {
      if (performance.now() - this.#takenMs < checkpointIntervalMs) return
      this.#pending = await takeCheckpoint(db, cursor, this.#progress)
      // What is cut off by a limit is not waited for.
      this.#takenMs = this.#pending.complete ? this.#pending.takenMs : -Infinity
    }
    const slot = checkSlot(await readSlot(db, names.slot), names.slot)
    noteSlot(notes, slot)
    this.#standing = standingOf(this.#standing, slot, performance.now())
    if (hasPassed(this.#pending, slot)) return this.#pass(this.#pending)
    this.#judge(standsStillMs(this.#pending, this.#standing, performance.now()))
  }

  async #pass({ positions }: Checkpoint): Promise<void> {
    const { db, cursor, publication, saver, onPassed } = this.#watched
    await requireSamePublication(db, publication)
    this.#progress = afterPublishing(this.#progress, positions)
    this.#pending = undefined
    if (this.#progress.gaps.length > 0) {
      // A position that was rolled back comes by no log.
      this.#progress = afterProof(this.#progress, await cursor.proveGaps(this.#progress))
    }
    saver.offer(this.#progress)
    this.#passedMs = performance.now()
    this.#health = afterPassing(this.#health)
    this.#standsStill = false
    onPassed(this.#progress, positions.length)
    this.#say()
  }

  #judge(stillMs: number): void {
    const { notes, standstillMs, names } = this.#watched
    const standsStill = stillMs >= standstillMs
    if (standsStill === this.#standsStill) return
    this.#standsStill = standsStill
    const seconds = Math.round(stillMs / 1_000)
    const what = `${this.#describe()}, and slot ${names.slot} has not moved for ${seconds} s`
    if (standsStill) noteStandstill(notes, what)
    this.#say()
  }

  async #look(): Promise<void> {
    const sighting = await this.#sight()
    if (this.#ended.aborted) return
    this.#sighting = sighting
    const { health, remedy } = afterSighting(this.#health, sighting, performance.now())
    this.#health = health
    this.#say()
    if (remedy === 'none') return
    const { names, assertHeld, notes } = this.#watched
    if (remedy !== 'restart') {
      const code = remedy.refused === true ? 'connector_refused' : 'connector_lost'
      throw new RelayError(code, `connector ${names.connector}: ${remedy.giveUp}`)
    }
    assertHeld()
    notes.metrics.connectorRestarts.inc()
    notes.log.warn(
      { event: 'connector_restarted', restarts: health.restarts, connector: names.connector },
      `${this.#describe()}: it is started again`,
    )
    // Whether that helped is seen soon, and so is a Connect that went away.
    await restartFailed(this.#connect, names.connector).catch(() => {})
  }

  async #sight(): Promise<Sighting> {
    const { connector } = this.#watched.names
    try {
      const seen = await status(this.#connect, connector)
      if (seen !== undefined) return seen
      // A worker that has just begun knows a name before it knows how that connector is.
      const known = await listConnectors(this.#connect, connector)
      return known.includes(connector) ? 'away' : 'missing'
    } catch {
      return 'away'
    }
  }

  #say(): void {
    const { notes, names } = this.#watched
    const seen = this.#sighting
    noteConnector(notes, {
      name: names.connector,
      state: typeof seen === 'string' ? seen : seen.connector.state,
      tasks: typeof seen === 'string' ? [] : seen.tasks.map(({ state }) => state),
      passedMs: this.#passedMs,
      standsStill: this.#standsStill,
    })
    if (this.#standsStill) noteWaiting(notes, `${this.#describe()}, and moves nothing`)
    else if (typeof seen === 'string' || this.#health.restarts > 0)
      noteWaiting(notes, this.#describe())
    else noteSource(notes, 'debezium')
  }

  #describe(): string {
    if (this.#sighting === 'away') {
      return 'Kafka Connect does not answer for the connector, which may go on working'
    }
    if (this.#sighting === 'missing') return 'Kafka Connect does not know the connector'
    const tasks = this.#sighting.tasks.map(({ state }) => state).join(', ')
    return `the connector is ${this.#sighting.connector.state} (tasks: ${tasks || 'none'})`
  }
}
