import type { AccountEvent } from 'command-api/events'
import type { ClientBase } from 'pg'

export type Transaction = Pick<ClientBase, 'query'>

/** An account's event as a projection gets it: who it happened to, which of theirs, and what. */
export type ProjectedEvent = {
  account: string
  /** 1 for the account's first event, then one more each. */
  version: number
  id: string
  event: AccountEvent
}

/** An event that cannot be applied where it stands: one before it is missing, or contradicts it. */
export type Refusal = {
  code: 'version_gap' | 'version_conflict'
  /** Where the event stands in the list given to `apply`. */
  index: number
  account: string
  wanted: number
  seen: number
}

export type Applied = { applied: number; duplicates: number; refusal?: Refusal }

/**
 * One read model. `apply` runs inside the transaction that also moves the offset, gets one
 * partition's events in their order, and applies each at most once however often it comes. At a
 * refusal it has applied everything before the refused event and nothing from it on.
 */
export type Projection = {
  name: string
  apply(transaction: Transaction, events: readonly ProjectedEvent[]): Promise<Applied>
}
