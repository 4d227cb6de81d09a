import { listConnectors, remove } from 'connect/connector'
import { backoffMs, pause } from 'service/backoff'
import type { Log } from 'service/log'
import { RelayError } from './errors.ts'
import type { Lease } from './lease.ts'
import { madeUpTo, type Names } from './names.ts'
import { dropSlots, withCdc } from './slots.ts'

/** Where connectors and slots are; a place that is not known has none. */
type Places = { connectUrl?: string | undefined; cdcUrl?: string | undefined }

export type Removal = Places & {
  names: Names
  /** The last epoch whose things are to go. */
  upTo: bigint
  /** Slots and connectors of the present sender, which stay. */
  inUse?: readonly string[]
  signal: AbortSignal
}

/**
 * Removes the connectors and slots of this database that epochs up to `upTo` made. Slots in use are
 * ended where Connect has confirmed that none of its connectors uses them any more; where it did not
 * answer, those that nobody uses go, and what it said is thrown. Needs no lease: what earlier epochs made
 * is nobody's, and what later ones made is not touched.
 */
export async function removeMadeUpTo(removal: Removal): Promise<void> {
  const { connectUrl, cdcUrl, names, upTo, inUse = [], signal } = removal
  let failure: { error: unknown } | undefined
  if (connectUrl !== undefined) {
    try {
      const connect = { url: connectUrl, signal }
      const found = await listConnectors(connect, names.connectorPrefix)
      for (const name of madeUpTo(upTo, found, names.connectorPrefix)) {
        if (!inUse.includes(name)) await remove(connect, name)
      }
    } catch (error) {
      failure = { error }
    }
  }
  if (cdcUrl !== undefined) {
    const endUse = connectUrl !== undefined && failure === undefined
    const left = await withCdc({ url: cdcUrl, names, signal }, (client) =>
      dropSlots(client, { names, upTo, inUse, endUse }),
    )
    if (left.length > 0 && connectUrl === undefined) {
      throw new RelayError(
        'slot_unusable',
        `slot ${left.join(', ')} is in use: a connector may still send by it, and without ` +
          'CONNECT_URL it cannot be removed',
      )
    }
  }
  if (failure !== undefined) throw failure.error
}

export type SweepOptions = Places & {
  names: Names
  inUse?: readonly string[]
  lease: Pick<Lease, 'lost'>
  log: Pick<Log, 'warn' | 'info' | 'debug'>
  firstPauseMs?: number
  intervalMs?: number
}

const attemptMs = 60_000
/** An earlier leader that was paused while it made something may wake at any time, and die of it. */
export const sweepIntervalMs = 60_000

/**
 * Removal beside a sender, of all that it does not use, this epoch's own included: again and again; what
 * fails is only logged.
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

  async #sweep(options: SweepOptions): Promise<void> {
    const { lease, names, log, firstPauseMs = 0, intervalMs = sweepIntervalMs } = options
    const ended = AbortSignal.any([lease.lost, this.#closed.signal])
    const upTo = BigInt(names.epoch)
    await pause(firstPauseMs, ended)
    for (let failures = 0; !ended.aborted;) {
      try {
        const signal = AbortSignal.any([ended, AbortSignal.timeout(attemptMs)])
        await removeMadeUpTo({ ...options, upTo, signal })
        failures = 0
        await pause(intervalMs, ended)
      } catch (error) {
        if (ended.aborted) return
        failures += 1
        const event = 'leftovers_kept'
        const text =
          'connectors or slots that are not in use may be left; removed as soon as possible'
        // Where Connect is only started on demand it is away most of the time.
        const level = error instanceof RelayError ? 'warn' : 'info'
        log[failures === 1 ? level : 'debug']({ event, err: error, failures }, text)
        await pause(backoffMs(failures, { firstMs: 1_000, capMs: 60_000 }), ended)
      }
    }
  }
}
