import {
  type Connect,
  connectorConfiguration,
  createStopped,
  patchOffsets,
  remove,
} from 'connect/connector'
import type { Way } from '../handover.ts'
import { removeMadeUpTo } from '../leftovers.ts'
import type { Names } from '../names.ts'
import { createSlot, dropSlots, withCdc } from '../slots.ts'

export type ConnectorWayOptions = {
  cdcUrl: string
  connectUrl: string
  names: Names
  /** Asked before each action outside. Throws. */
  assertHeld: () => void
  /** Told what is being done. */
  waiting: (why: string) => void
}

/** A connector that does not run yet, set to begin at a slot of its own. */
export class WayToConnector implements Way<Names> {
  readonly cannot = 'the connector cannot begin'
  readonly #options: ConnectorWayOptions
  #begun = false

  constructor(options: ConnectorWayOptions) {
    this.#options = options
  }

  get slotName(): string {
    return this.#options.names.slot
  }

  /** Whether there may be a slot or a connector of this epoch. */
  get begun(): boolean {
    return this.#begun
  }

  async clear(signal: AbortSignal): Promise<void> {
    const { names } = this.#options
    // Its own too, of a try that failed half-way.
    await removeMadeUpTo({ ...this.#options, upTo: BigInt(names.epoch), signal })
  }

  async make(signal: AbortSignal): Promise<Names> {
    const { cdcUrl, connectUrl, names, assertHeld, waiting } = this.#options
    const connect: Connect = { url: connectUrl, signal }
    assertHeld()
    this.#begun = true
    const lsn = await withCdc({ url: cdcUrl, signal }, (client) => createSlot(client, names.slot))
    assertHeld()
    waiting('Kafka Connect is making the connector')
    const settings = { databaseUrl: cdcUrl, slotName: names.slot, connectorName: names.connector }
    await createStopped(connect, connectorConfiguration(settings))
    assertHeld()
    await patchOffsets(connect, names.connector, lsn)
    return names
  }

  /** Between two tries, which may be long apart where Connect is away, no log is kept. */
  async unmake(signal: AbortSignal): Promise<void> {
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

export type Leaving = Pick<
  ConnectorWayOptions,
  'cdcUrl' | 'connectUrl' | 'names' | 'assertHeld'
> & {
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
