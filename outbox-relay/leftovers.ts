import { listConnectors, remove } from 'connect/connector'
import { backoffMs, pause } from 'service/backoff'
import type { Log } from 'service/log'
import type { Lease } from './lease.ts'
import type { Queryable } from './text-query.ts'
import { madeUpTo, type Names, namesOf } from './names.ts'
import { dropSlots, withCdc } from './slots.ts'

/** Where connectors and slots are; a place that is not known has none. */
type Places = { connectUrl?: string | undefined; cdcUrl?: string | undefined }

export type Removal = Places & {
  names: Names
  /** The last epoch whose things are to go. */
  upTo: bigint
  signal: AbortSignal
}

/**
 * Removes the connectors and slots of this database that epochs up to `upTo` made. Slots in use are
 * ended where Connect has confirmed that none of its connectors uses them any more; where it did not
 * answer, those that nobody uses go, and what it said is thrown. Needs no lease: what earlier epochs made
 * is nobody's, and what later ones made is not touched.
 */
export async function removeMadeUpTo(removal: Removal): Promise<void> {
  const { connectUrl, cdcUrl, names, upTo, signal } = removal
  let failure: { error: unknown } | undefined
  if (connectUrl !== undefined) {
    try {
      const connect = { url: connectUrl, signal }
      const found = await listConnectors(connect, names.connectorPrefix)
      for (const name of madeUpTo(upTo, found, names.connectorPrefix)) {
        await remove(connect, name)
      }
    } catch (error) {
      failure = { error }
    }
  }
  if (cdcUrl !== undefined) {
    const endUse = connectUrl !== undefined && failure === undefined
    await withCdc({ url: cdcUrl, signal }, (client) =>
      dropSlots(client, { upTo: String(upTo), endUse }),
    )
  }
  if (failure !== undefined) throw failure.error
}

export type SweepOptions = Places & {
  db: Queryable
  lease: Lease
  log: Log
}

const attemptMs = 60_000

/**
 * Removal beside a sender that uses nothing of it, so this epoch's own go too: tried until it
 * succeeds; its failures are only logged.
 */
export class Sweep {
  readonly #closed = new AbortController()
  readonly #sweeping: Promise<void>

  constructor(options: SweepOptions) {
    this.#sweeping = this.#sweep(options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort()
    await this.#sweeping
  }

  async #sweep({ db, lease, log, ...places }: SweepOptions): Promise<void> {
    const ended = AbortSignal.any([lease.lost, this.#closed.signal])
    const upTo = BigInt(lease.epoch)
    for (let failures = 1; !ended.aborted; failures += 1) {
      try {
        const names = await namesOf(db, lease)
        const signal = AbortSignal.any([ended, AbortSignal.timeout(attemptMs)])
        return await removeMadeUpTo({ ...places, names, upTo, signal })
      } catch (error) {
        if (ended.aborted) return
        const event = 'leftovers_kept'
        const text =
          'connectors or slots that are not in use may be left; removed as soon as possible'
        // Where Connect is only started on demand it is away most of the time.
        log[failures === 1 ? 'info' : 'debug']({ event, err: error, failures }, text)
        await pause(backoffMs(failures, { firstMs: 1_000, capMs: 60_000 }), ended)
      }
    }
  }
}
