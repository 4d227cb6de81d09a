import { pause } from 'service/backoff'
import type { Lease } from './lease.ts'
import type { Mode } from './modes.ts'
import {
  type CourseRow,
  finishSwitch,
  readCourse,
  saveStep,
  saveWaiting,
  type Step,
} from './switch-table.ts'
import type { Queryable } from './text-query.ts'

// Where one leadership is going: to the mode of a switch, or else to the mode of the row. Whatever
// happened before, a leadership begins by polling, removes what is left, and goes there; so a successor
// finishes a switch by doing what it does at every start, and undoes one that was cancelled likewise.

export type CourseOptions = {
  db: Queryable
  lease: Lease
  row: CourseRow
  /** Why this process cannot lead in a mode; undefined when it can. */
  whyNot: (mode: Mode) => string | undefined
  /** Told of a mode that is wanted and cannot be. */
  refused: (why: string) => void
  /** What the relay waits for, for whoever asks another one. */
  waitingFor: () => string | null
}

const lookIntervalMs = 200
const tellIntervalMs = 1_000

export class Course {
  readonly #options: CourseOptions
  readonly #closed = new AbortController()
  readonly #looking: Promise<void>
  #row: CourseRow
  #goal: Mode
  /** The mode whose own sender sends; null on the way there. */
  #sending: Mode | null = null
  #left = new AbortController()
  #refusal: string | null = null

  constructor(options: CourseOptions) {
    this.#options = options
    this.#row = options.row
    this.#goal = this.#goalOf(options.row)
    this.#looking = this.#look()
  }

  get goal(): Mode {
    return this.#goal
  }

  /** Aborts when the goal is another than it is now. */
  get left(): AbortSignal {
    return this.#left.signal
  }

  /** Before an action outside. Throws `progress_fenced` and `lease_lost`. */
  async step(step: Step): Promise<void> {
    const { db, lease } = this.#options
    if (this.#row.switching !== null) await saveStep(db, lease.epoch, step)
    lease.assertHeld()
  }

  /** The mode's own sender sends. */
  async arrived(mode: Mode): Promise<void> {
    if (mode !== this.#goal) return // It is to be left already.
    this.#sending = mode
    await this.#finish()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort()
    await this.#looking
  }

  #goalOf({ mode, switching }: CourseRow): Mode {
    const { whyNot, refused } = this.#options
    const wanted = switching?.to ?? mode
    const why = whyNot(wanted)
    const refusal =
      why === undefined || switching === null ? (why ?? null) : `${why}: the mode stays ${mode}`
    if (refusal !== null && refusal !== this.#refusal) refused(refusal)
    this.#refusal = refusal
    if (why === undefined) return wanted
    return whyNot(mode) === undefined ? mode : 'polling'
  }

  async #look(): Promise<void> {
    const { db, lease } = this.#options
    const ended = AbortSignal.any([lease.lost, this.#closed.signal])
    let toldMs = performance.now()
    for (; !ended.aborted; await pause(lookIntervalMs, ended)) {
      try {
        const row = await readCourse(db)
        if (row.epoch !== lease.epoch || ended.aborted) continue
        await this.#turn(row)
        // Called off and asked for again between two looks: it is where it is to go, and has to say so.
        await this.#finish()
        if (this.#row.switching === null || performance.now() - toldMs < tellIntervalMs) continue
        toldMs = performance.now()
        await saveWaiting(db, lease.epoch, this.#refusal ?? this.#options.waitingFor())
      } catch {
        // The lease tells when the server is away for long.
      }
    }
  }

  async #finish(): Promise<void> {
    const { db, lease } = this.#options
    const { switching } = this.#row
    if (switching === null || switching.to !== this.#sending) return
    const mode = switching.to
    const finished = await finishSwitch(db, lease.epoch, mode)
    if (finished) this.#row = { ...this.#row, mode, switching: null }
  }

  async #turn(row: CourseRow): Promise<void> {
    this.#row = row
    const goal = this.#goalOf(row)
    if (goal === this.#goal) return
    this.#sending = null
    await this.step('leave')
    this.#goal = goal
    this.#left.abort(new Error(`the mode is to be ${goal}`))
    this.#left = new AbortController()
  }
}
