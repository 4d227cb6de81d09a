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
import { createSlot, dropSlots, requireSeen, withCdc } from '../slots.ts'
import type { Step } from '../switch-table.ts'
import type { Queryable } from '../text-query.ts'
import { type Publication, readPublication } from './publication.ts'

/** One epoch's connector. */
type Own = { cdcUrl: string; connectUrl: string; names: Names }

export type ConnectorWayOptions = Own & {
  db: Queryable
  /** What the connector must refuse to send, in bytes. */
  limitBytes: () => Promise<number>
}

/** A connector that does not run yet, set to begin at a slot of its own. */
export class WayToConnector implements Way<Names> {
  readonly cannot = 'the connector cannot begin'
  readonly #options: ConnectorWayOptions
  #begun = false
  #publication: Publication = 'none'

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

  /** As it was before the slot was made. */
  get publication(): Publication {
    return this.#publication
  }

  async clear(signal: AbortSignal): Promise<void> {
    const { names } = this.#options
    // Its own too, of a try that failed half-way.
    await removeMadeUpTo({ ...this.#options, upTo: BigInt(names.epoch), signal })
  }

  async make(signal: AbortSignal, next: (step: Step) => Promise<void>): Promise<Names> {
    const { cdcUrl, connectUrl, db, names, limitBytes } = this.#options
    const connect: Connect = { url: connectUrl, signal }
    const recordLimitBytes = await limitBytes()
    this.#publication = await readPublication(db)
    this.#begun = true
    const cdc = { url: cdcUrl, names, signal }
    const lsn = await withCdc(cdc, (client) => createSlot(client, names.slot))
    await requireSeen(db, names.slot)
    await next('make connector')
    const of = { databaseUrl: cdcUrl, slotName: names.slot, connectorName: names.connector }
    await createStopped(connect, connectorConfiguration({ ...of, recordLimitBytes }))
    await next('set offsets')
    await patchOffsets(connect, names.connector, lsn)
    return names
  }

  /** Between two tries, which may be long apart where Connect is away, no log is kept. */
  async unmake(): Promise<void> {
    if (this.#begun) await dropOwn(this.#options).catch(() => {}) // The next try begins by it.
  }
}

// What a stop of the process leaves time for; a connector stops within 2 s.
const removeMs = 3_000
const dropMs = 1_500

async function dropOwn({ cdcUrl, names }: Own): Promise<void> {
  await withCdc({ url: cdcUrl, names, signal: AbortSignal.timeout(dropMs) }, (client) =>
    dropSlots(client, { names, upTo: BigInt(names.epoch), endUse: true }),
  )
}

export type Leaving = Own & {
  step: (step: Step) => Promise<void>
  onKept: (error: unknown) => void
}

/**
 * Removes this epoch's connector and slot as far as the time allows; whoever comes next has the rest.
 * Also without the lease: nobody else uses what this epoch made.
 */
export async function leaveConnector(leaving: Leaving): Promise<void> {
  const { connectUrl, names, step, onKept } = leaving
  try {
    await step('remove connector').catch(() => {})
    await remove({ url: connectUrl, signal: AbortSignal.timeout(removeMs) }, names.connector)
  } catch (error) {
    onKept(error)
  }
  try {
    await step('drop slot').catch(() => {})
    await dropOwn(leaving)
  } catch (error) {
    onKept(error)
  }
}
