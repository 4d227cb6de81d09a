import {
  type Connect,
  connectorConfiguration,
  createStopped,
  patchOffsets,
  remove,
} from 'connect/connector'
import { backoffMs, orAborted, pause } from 'service/backoff'
import type { Batch } from '../cursor.ts'
import { handsOver, holdersEnded } from '../handover.ts'
import type { Queryable } from '../text-query.ts'
import { removeMadeUpTo } from './leftovers.ts'
import type { Names } from '../names.ts'
import { createSlot, dropSlots, withCdc } from './slots.ts'

export type EntryOptions = {
  cdcUrl: string
  connectUrl: string
  db: Queryable
  names: Names
  /** Asked before each action outside. Throws. */
  assertHeld: () => void
  /** Told what keeps the connector from taking over. */
  waiting: (why: string) => void
  signal: AbortSignal
}

/**
 * The way into debezium mode, beside polling: what earlier epochs left is removed; once polling has
 * caught up, a slot is made, a connector that does not run yet is set to begin there, and the handover
 * waited for. Tried again as long as it takes.
 */
export class ConnectorEntry {
  readonly #options: EntryOptions
  readonly #closed = new AbortController()
  readonly #caughtUp = Promise.withResolvers<void>()
  readonly #trying: Promise<void>
  #endedAtMs: number | undefined
  #begun = false

  constructor(options: EntryOptions) {
    this.#options = options
    this.#trying = this.#try()
  }

  /** Asked of every batch that polling has published: may the connector take over now? */
  covers(batch: Batch): boolean {
    if (batch.complete) this.#caughtUp.resolve()
    return handsOver(batch, this.#endedAtMs)
  }

  /** Whether there may be a slot or a connector of this epoch. */
  get begun(): boolean {
    return this.#begun
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(new Error('closed'))
    await this.#trying
  }

  async #try(): Promise<void> {
    const { waiting, signal } = this.#options
    const ended = AbortSignal.any([signal, this.#closed.signal])
    for (let failures = 1; !ended.aborted; failures += 1) {
      try {
        this.#endedAtMs = await this.#enter(ended)
        return
      } catch (error) {
        if (ended.aborted) return
        waiting(`the connector cannot begin, so polling sends: ${(error as Error).message}`)
        await this.#retainNothing(ended)
        await pause(backoffMs(failures, { firstMs: 200, capMs: 10_000 }), ended)
      }
    }
  }

  async #enter(signal: AbortSignal): Promise<number> {
    const { cdcUrl, connectUrl, db, names, assertHeld, waiting } = this.#options
    const connect: Connect = { url: connectUrl, signal }
    const upTo = BigInt(names.epoch)
    // Its own too, of a try that failed half-way.
    await removeMadeUpTo({ connectUrl, cdcUrl, names, upTo, assertHeld, signal })
    await orAborted(this.#caughtUp.promise, signal)
    assertHeld()
    waiting('a slot is being made: every transaction that runs now has to end first')
    this.#begun = true
    const lsn = await withCdc({ url: cdcUrl, signal }, (client) => createSlot(client, names.slot))
    assertHeld()
    waiting('Kafka Connect is making the connector')
    const settings = { databaseUrl: cdcUrl, slotName: names.slot, connectorName: names.connector }
    await createStopped(connect, connectorConfiguration(settings))
    assertHeld()
    await patchOffsets(connect, names.connector, lsn)
    await holdersEnded({
      db,
      signal,
      waiting: (count) => waiting(`${count} open transactions that wrote to outbox.events`),
    })
    return performance.now()
  }

  /** Between two tries, which may be long apart where Connect is away. */
  async #retainNothing(signal: AbortSignal): Promise<void> {
    const { cdcUrl, names, assertHeld } = this.#options
    if (!this.#begun) return
    try {
      assertHeld()
      await withCdc({ url: cdcUrl, signal }, (client) =>
        dropSlots(client, { upTo: names.epoch, endUse: true }),
      )
    } catch {
      // The next try begins by it.
    }
  }
}

export type Leaving = Pick<EntryOptions, 'cdcUrl' | 'connectUrl' | 'names' | 'assertHeld'> & {
  lost: AbortSignal
  onKept: (error: unknown) => void
}

// Together within what a stop is given. A connector stops within 2 s.
const removeMs = 3_000
const dropMs = 1_500

/** Removes this epoch's connector and slot as far as the time allows; the next leader has the rest. */
export async function leaveConnector(leaving: Leaving): Promise<void> {
  const { cdcUrl, connectUrl, names, assertHeld, lost, onKept } = leaving
  const within = (ms: number) => AbortSignal.any([lost, AbortSignal.timeout(ms)])
  try {
    assertHeld()
    await remove({ url: connectUrl, signal: within(removeMs) }, names.connector)
  } catch (error) {
    onKept(error)
  }
  try {
    assertHeld()
    await withCdc({ url: cdcUrl, signal: within(dropMs) }, (client) =>
      dropSlots(client, { upTo: names.epoch, endUse: true }),
    )
  } catch (error) {
    onKept(error)
  }
}
