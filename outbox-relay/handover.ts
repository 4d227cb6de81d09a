import { backoffMs, orAborted, pause } from 'service/backoff'
import { type Batch, presentHolders } from './cursor.ts'
import { RelayError } from './errors.ts'
import type { Step } from './switch-table.ts'
import type { Queryable } from './text-query.ts'
import { openTransactions } from './open-transactions.ts'
import { checkSlot, readSlot } from './wal/slot.ts'

// How a slot begins to be used, by the log's reader and by a connector alike, without losing what
// lies between the table and the log:
//   1. the slot exists;
//   2. whoever holds RowExclusiveLock on outbox.events by then has ended. A transaction can have its
//      commit record before the slot's consistent point and not be visible yet: it would be neither in
//      the stream nor in a snapshot taken now. Its locks outlive that moment;
//   3. a statement sent after that sees every such transaction;
//   4. all of it is published, by polling, which goes on during the wait;
//   5. only then the stream takes over. What it repeats is recognised by its position.

export type HandoverWait = {
  db: Queryable
  signal: AbortSignal
  /** Told how many transactions are waited for. */
  waiting?: (count: number) => void
}

/**
 * Step 2: resolves when every transaction has ended that may have inserted when it was called. Rejects
 * with the signal's reason, with `stream_lost` when the server was started again meanwhile, and with
 * what the database says.
 */
export async function holdersEnded({ db, signal, waiting }: HandoverWait): Promise<void> {
  const first = await presentHolders(db)
  let remaining: ReadonlySet<string> = first.names
  while (remaining.size > 0) {
    waiting?.(remaining.size)
    await pause(20, signal)
    signal.throwIfAborted()
    const present = await presentHolders(db)
    if (present.server !== first.server) {
      throw new RelayError('stream_lost', 'the server was started again during the handover')
    }
    remaining = remaining.intersection(present.names)
  }
}

/** What there is to know of the statement that read a batch. */
type Statement = Pick<Batch, 'complete' | 'sentMs'>

/** Steps 3 and 4: whether this published batch is the last that polling has to publish. */
export function handsOver(batch: Statement, endedAtMs: number | undefined): boolean {
  return endedAtMs !== undefined && batch.complete && batch.sentMs > endedAtMs
}

/** How one mode makes its slot, and what is to read it. */
export type Way<Made> = {
  slotName: string
  /** What a try that failed means, such as `the log cannot be read`. */
  cannot: string
  /** Removes what earlier leaderships left, and earlier tries. */
  clear: (signal: AbortSignal) => Promise<void>
  /** Step 1, and whatever reads the slot, which does not run yet. `next` is told of what comes next. */
  make: (signal: AbortSignal, next: (step: Step) => Promise<void>) => Promise<Made>
  /** After a try that failed or was given up, wherever that was. Never rejects. */
  unmake: () => Promise<void>
}

export type HandoverOptions<Made> = {
  way: Way<Made>
  db: Queryable
  /** How long to wait before the first try, in milliseconds. */
  firstPauseMs?: number
  /** Asked before each action outside. Throws when the lease is not held. */
  step: (step: Step) => Promise<void>
  /** Told what keeps the stream from taking over, and by whose doing. */
  waiting: (why: string, whose?: string) => void
  signal: AbortSignal
}

const phases: Partial<Record<Step, string>> = {
  'catch up': 'polling has not caught up yet',
  'make slot': 'a slot is being made: every transaction that runs now has to end first',
  'make connector': 'Kafka Connect is making the connector',
  'wait for writers': 'transactions that wrote to outbox.events have to end first',
}

/** How often a slot that nobody reads yet is looked at. */
const watchIntervalMs = 1_000

/**
 * The way into a mode, beside polling: what is left from before is removed; once polling has caught
 * up, the slot is made and the handover waited for, tried again as long as it takes. Nothing is
 * retained for a relay that is far behind, or falls behind before it has taken over.
 */
export class Handover<Made> {
  readonly #options: HandoverOptions<Made>
  readonly #closed = new AbortController()
  readonly #trying: Promise<void>
  #caughtUp = Promise.withResolvers<void>()
  #phase: Step = 'remove leftovers'
  #ready: { made: Made; endedAtMs: number; taken: AbortController } | undefined

  constructor(options: HandoverOptions<Made>) {
    this.#options = options
    this.#trying = this.#try()
  }

  /** Asked of every batch that polling has published: may the stream take over now? */
  covers(batch: Statement): boolean {
    if (batch.complete) this.#caughtUp.resolve()
    return handsOver(batch, this.#ready?.endedAtMs)
  }

  /** What was made; from now on the caller's to close and to watch. */
  take(): Made {
    if (this.#ready === undefined) throw new Error('taken before the handover')
    const { made, taken } = this.#ready
    this.#ready = undefined
    taken.abort()
    return made
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(new Error('closed'))
    await this.#trying
  }

  /** Ends once what was made is taken. */
  async #try(): Promise<void> {
    const { way, firstPauseMs = 0, waiting, signal } = this.#options
    const ended = AbortSignal.any([signal, this.#closed.signal])
    await pause(firstPauseMs, ended)
    for (let failures = 1; !ended.aborted; failures += 1) {
      try {
        return await this.#enter(ended)
      } catch (error) {
        this.#ready = undefined
        this.#caughtUp = Promise.withResolvers<void>()
        const why = (error as Error).message
        if (!ended.aborted) waiting(`${way.cannot}, so polling sends: ${why}`)
        await way.unmake()
        await pause(backoffMs(failures, { firstMs: 200, capMs: 10_000 }), ended)
      }
    }
  }

  async #enter(ended: AbortSignal): Promise<void> {
    const { way } = this.#options
    await this.#next('remove leftovers')
    await way.clear(ended)
    await this.#next('catch up')
    await orAborted(this.#caughtUp.promise, ended)
    const taken = new AbortController()
    const watched = this.#watch(AbortSignal.any([ended, taken.signal]))
    try {
      const made = await Promise.race([this.#prepare(ended), watched])
      ended.throwIfAborted()
      this.#ready = { made, endedAtMs: performance.now(), taken }
      await watched
    } catch (error) {
      if (!taken.signal.aborted) throw error
    } finally {
      taken.abort()
    }
  }

  async #prepare(signal: AbortSignal): Promise<Made> {
    const { way, db } = this.#options
    await this.#next('make slot')
    const made = await way.make(signal, (step) => this.#next(step))
    await this.#next('wait for writers')
    await holdersEnded({ db, signal })
    return made
  }

  async #next(step: Step): Promise<void> {
    const { step: write, waiting } = this.#options
    await write(step)
    this.#phase = step
    const what = phases[step]
    if (what !== undefined) waiting(what)
  }

  /** Rejects when the slot keeps too much, or is lost, and with the signal's reason; it resolves never. */
  async #watch(signal: AbortSignal): Promise<never> {
    const { db, way } = this.#options
    for (;;) {
      await pause(watchIntervalMs, signal)
      signal.throwIfAborted()
      const slot = await readSlot(db, way.slotName)
      if (slot !== undefined) checkSlot(slot, way.slotName)
      if (this.#ready === undefined) await this.#tellWhose()
    }
  }

  async #tellWhose(): Promise<void> {
    const { db, waiting } = this.#options
    const step = this.#phase
    const what = phases[step]
    if (what === undefined || (step !== 'make slot' && step !== 'wait for writers')) return
    const whose = await openTransactions(db, step === 'wait for writers')
    if (this.#phase === step && this.#ready === undefined) waiting(what, whose)
  }
}
