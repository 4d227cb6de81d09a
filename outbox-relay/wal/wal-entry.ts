import { backoffMs, pause } from 'service/backoff'
import type { Batch } from '../cursor.ts'
import { RelayError } from '../errors.ts'
import { handsOver, holdersEnded } from '../handover.ts'
import type { Queryable } from '../text-query.ts'
import { ReplicationSession, type Slot } from './replication-session.ts'
import { checkSlot, readSlot } from './slot.ts'

export type WalEntryOptions = {
  url: string
  db: Queryable
  /** In the slot's name too: slots of later epochs are never touched. */
  epoch: string
  slotName: string
  /** Throws when the lease is not held. */
  assertHeld: () => void
  /** How long to wait before the first try, in milliseconds: streams that end soon come less often. */
  firstPauseMs: number
  /** Told what keeps the stream from taking over. */
  waiting: (why: string) => void
  signal: AbortSignal
}

export type Entered = { session: ReplicationSession; slot: Slot }
type Waiting = Entered & { endedAtMs: number; unwatch: () => void }

/** How often a slot that nobody reads yet is looked at. */
const watchIntervalMs = 1_000

/**
 * The way into wal mode, beside polling: once polling has caught up, a slot is made and the handover
 * waited for, tried again as long as it takes. Nothing is retained for a relay that is far behind.
 */
export class WalEntry {
  readonly #options: WalEntryOptions
  readonly #closed = new AbortController()
  #trying: Promise<void> | undefined
  #entered: Waiting | undefined

  constructor(options: WalEntryOptions) {
    this.#options = options
  }

  /** Asked of every batch that polling has published: may the stream take over now? */
  covers(batch: Batch): boolean {
    if (batch.complete) this.#trying ??= this.#try()
    return handsOver(batch, this.#entered?.endedAtMs)
  }

  /** What was entered; from now on the caller's to close and to watch. */
  take(): Entered {
    const entered = this.#entered
    if (entered === undefined) throw new Error('taken before the handover')
    this.#entered = undefined
    entered.unwatch()
    return entered
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort()
    await this.#trying
    await this.#entered?.session[Symbol.asyncDispose]()
  }

  async #try(): Promise<void> {
    const { firstPauseMs, waiting, signal } = this.#options
    const ended = AbortSignal.any([signal, this.#closed.signal])
    await pause(firstPauseMs, ended)
    for (let failures = 1; !ended.aborted; failures += 1) {
      try {
        this.#entered = await this.#enter(ended)
        return
      } catch (error) {
        if (ended.aborted) return
        waiting(`the log cannot be read, so polling sends: ${(error as Error).message}`)
        await pause(backoffMs(failures, { firstMs: 200, capMs: 10_000 }), ended)
      }
    }
  }

  /** Throws what stands in the way; the session is closed then. */
  async #enter(signal: AbortSignal): Promise<Waiting> {
    const session = await ReplicationSession.open(this.#options.url)
    const watch = new AbortController()
    const ended = AbortSignal.any([signal, watch.signal])
    ended.addEventListener('abort', () => signal.aborted && void session[Symbol.asyncDispose](), {
      once: true,
    })
    const watched = this.#watch(ended)
    try {
      const slot = await Promise.race([this.#makeSlot(session, ended), watched])
      // Polling may never catch up, and then the slot goes again; another try is made once it has.
      watched.catch(async () => {
        if (this.#entered?.session !== session) return
        this.#entered = undefined
        this.#trying = undefined
        await session[Symbol.asyncDispose]()
      })
      return { session, slot, endedAtMs: performance.now(), unwatch: () => watch.abort() }
    } catch (error) {
      watch.abort()
      await session[Symbol.asyncDispose]()
      throw error
    }
  }

  async #makeSlot(session: ReplicationSession, signal: AbortSignal): Promise<Slot> {
    const { db, slotName, epoch, assertHeld, waiting } = this.#options
    signal.throwIfAborted()
    assertHeld()
    await session.removeSlotsUpTo(epoch)
    waiting('a slot is being made: every transaction that runs now has to end first')
    const slot = await session.createSlot(slotName)
    if ((await readSlot(db, slotName)) === undefined) {
      throw new RelayError(
        'slot_unusable',
        `slot ${slotName} was made and is not to be seen from the write database: ` +
          'CDC_DATABASE_URL leads to another server or database than WRITE_DATABASE_URL',
      )
    }
    await holdersEnded({
      db,
      signal,
      waiting: (count) => waiting(`${count} open transactions that wrote to outbox.events`),
    })
    return slot
  }

  /** Rejects when the slot keeps too much, or is lost, and with the signal's reason; it resolves never. */
  async #watch(signal: AbortSignal): Promise<never> {
    const { db, slotName } = this.#options
    for (;;) {
      await pause(watchIntervalMs, signal)
      signal.throwIfAborted()
      const slot = await readSlot(db, slotName)
      if (slot !== undefined) checkSlot(slot, slotName)
    }
  }
}
