import type { ConsistencyToken } from 'command-api/token'
import { problem } from './problems.ts'

// Reads that wait for their tokens are looked after together: one look asks for the accounts of all.
// If each asked for itself, a projection would be asked the more the later it is, and be the later
// for it.

const firstPauseMs = 2
const defaultLongestPauseMs = 25

export type LagWatchSettings = {
  /** The versions that the projection has; accounts it does not know are left out. */
  versionsOf: (accounts: readonly string[]) => Promise<ReadonlyMap<string, number>>
  /** Aborts when the process stops: whoever waits is told what there is. */
  signal: AbortSignal
  /** Who may wait at one time. 256 by default. */
  waiterLimit?: number
  /** How long it rests at most between two looks while nothing moves. 25 ms by default. */
  longestPauseMs?: number
  /** Monotonic milliseconds. */
  now?: () => number
}

/** An account that is read as it was before the token's write. */
export type Lag = { account: string; have: number; want: number }

/** `hangUp` is asked for only when it has to wait, because such a signal is not cheap. */
type Wait = { token: ConsistencyToken; waitMs: number; hangUp: () => AbortSignal }

type Waiter = Wait & {
  untilMs: number
  /** As last seen; undefined before the first look. */
  lags: Lag[] | undefined
  /** Stops listening for the caller's hanging up. */
  unlisten: () => void
  settle: (lags: Lag[]) => void
  fail: (error: unknown) => void
}

export class LagWatch {
  readonly #settings: Required<LagWatchSettings>
  /** Those before their first look as well. */
  readonly #waiters = new Set<Waiter>()
  #looking = false
  /** Ends the pause between two looks. */
  #wake = () => {}

  constructor(settings: LagWatchSettings) {
    this.#settings = {
      waiterLimit: 256,
      longestPauseMs: defaultLongestPauseMs,
      now: () => performance.now(),
      ...settings,
    }
    settings.signal.addEventListener('abort', () => this.#wake())
  }

  /** Those that were looked for, and wait. */
  get waiting(): number {
    return [...this.#waiters].filter(({ lags }) => lags !== undefined).length
  }

  /**
   * How the token's accounts lag: no more at all, or still when `waitMs` are over or the caller hangs
   * up. Throws `too_many_waiters` instead of waiting beside too many, and what a look threw.
   */
  lagsOf(wait: Wait): Promise<Lag[]> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiters.delete(waiter)
        waiter.unlisten()
      }
      const waiter: Waiter = {
        ...wait,
        untilMs: this.#settings.now() + wait.waitMs,
        lags: undefined,
        unlisten: () => {},
        settle: (lags) => resolve((leave(), lags)),
        fail: (error) => reject((leave(), error)),
      }
      this.#waiters.add(waiter)
      this.#wake()
      if (!this.#looking) void this.#look()
    })
  }

  /** Newcomers are looked for at once, the others now and then: seldom, while nothing moves. */
  async #look(): Promise<void> {
    const { now, longestPauseMs } = this.#settings
    this.#looking = true
    let pauseMs = firstPauseMs
    for (let dueMs = 0; this.#waiters.size > 0;) {
      const due = now() >= dueMs
      const asked = [...this.#waiters].filter(({ lags }) => due || lags === undefined)
      if (asked.length === 0) {
        await this.#pause(dueMs - now())
        continue
      }
      const moved = await this.#ask(asked)
      pauseMs = moved ? firstPauseMs : Math.min(pauseMs * 1.5, longestPauseMs)
      // Newcomers bring the next look of all forward, and never put it off.
      dueMs = due ? now() + pauseMs : Math.min(dueMs, now() + pauseMs)
    }
    this.#looking = false
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** One look; true when it answered somebody, or somebody began to wait. */
  async #ask(asked: readonly Waiter[]): Promise<boolean> {
    try {
      const accounts = new Set(asked.flatMap(({ token }) => [...token.keys()]))
      const versions = await this.#settings.versionsOf([...accounts])
      return asked.map((waiter) => this.#judge(waiter, versions)).includes(true)
    } catch (error) {
      for (const { fail } of asked) fail(error)
      return true
    }
  }

  #judge(waiter: Waiter, versions: ReadonlyMap<string, number>): boolean {
    const { now, waiterLimit, signal } = this.#settings
    const lags = [...waiter.token]
      .map(([account, want]) => ({ account, want, have: versions.get(account) ?? 0 }))
      .filter(({ have, want }) => have < want)
    const begins = waiter.lags === undefined
    if (lags.length === 0 || signal.aborted || now() >= waiter.untilMs) waiter.settle(lags)
    else if (begins && this.waiting >= waiterLimit) {
      waiter.fail(problem('too_many_waiters', { headers: { 'Retry-After': '1' } }))
    } else {
      waiter.lags = lags
      if (begins) leaveWhenAborted(waiter)
      return begins
    }
    return true
  }
}

function leaveWhenAborted(waiter: Waiter): void {
  const hangUp = waiter.hangUp()
  const leave = () => waiter.settle(waiter.lags ?? [])
  if (hangUp.aborted) return leave()
  hangUp.addEventListener('abort', leave, { once: true })
  waiter.unlisten = () => hangUp.removeEventListener('abort', leave)
}
