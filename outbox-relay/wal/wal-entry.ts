import { backoffMs, pause } from 'service/backoff'
import type { Batch } from '../cursor.ts'
import { handsOver, holdersEnded } from '../handover.ts'
import type { Queryable } from '../text-query.ts'
import { ReplicationSession, type Slot } from './replication-session.ts'

export type WalEntryOptions = {
  url: string
  db: Queryable
  slotName: string
  /** How long to wait before the first try, in milliseconds: streams that end soon come less often. */
  firstPauseMs: number
  /** Told what keeps the stream from taking over. */
  waiting: (why: string) => void
  signal: AbortSignal
}

export type Entered = { session: ReplicationSession; slot: Slot }

/**
 * The way into wal mode, beside polling: once polling has caught up, a slot is made and the handover
 * waited for, tried again as long as it takes. Nothing is retained for a relay that is far behind.
 */
export class WalEntry {
  readonly #options: WalEntryOptions
  readonly #closed = new AbortController()
  #trying: Promise<void> | undefined
  #entered: (Entered & { endedAtMs: number }) | undefined

  constructor(options: WalEntryOptions) {
    this.#options = options
  }

  /** Asked of every batch that polling has published: may the stream take over now? */
  covers(batch: Batch): boolean {
    if (batch.complete) this.#trying ??= this.#try()
    return handsOver(batch, this.#entered?.endedAtMs)
  }

  /** What was entered; from now on the caller's to close. */
  take(): Entered {
    const entered = this.#entered
    if (entered === undefined) throw new Error('taken before the handover')
    this.#entered = undefined
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

  async #enter(signal: AbortSignal): Promise<Entered & { endedAtMs: number }> {
    const { url, db, slotName, waiting } = this.#options
    const session = await ReplicationSession.open(url)
    const close = () => void session[Symbol.asyncDispose]()
    signal.addEventListener('abort', close, { once: true })
    try {
      signal.throwIfAborted()
      await session.removeOtherSlots()
      waiting('a slot is being made: every transaction that runs now has to end first')
      const slot = await session.createSlot(slotName)
      await holdersEnded({
        db,
        signal,
        waiting: (count) => waiting(`${count} open transactions that wrote to outbox.events`),
      })
      return { session, slot, endedAtMs: performance.now() }
    } catch (error) {
      await session[Symbol.asyncDispose]()
      throw error
    } finally {
      signal.removeEventListener('abort', close)
    }
  }
}
