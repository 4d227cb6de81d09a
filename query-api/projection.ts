import type { AccountEvent } from 'command-api/events'
import type { Head } from './guard.ts'
import type { Queryable, Transaction } from './transaction.ts'

/** An account's event as a projection gets it: who it happened to, which of theirs, and what. */
export type ProjectedEvent = {
  account: string
  /** 1 for the account's first event, then one more each. */
  version: number
  id: string
  event: AccountEvent
}

/**
 * An event that cannot be applied where it stands: one before it is missing, or contradicts it, or
 * the database refuses its values. Its account's later events are refused with it.
 */
export type Refusal = {
  code: 'version_gap' | 'version_conflict' | 'apply_failed'
  /** Where the event stands in the list given to `apply`. */
  index: number
  account: string
  wanted: number
  seen: number
  /** The highest version among the refused events of this account. */
  highest: number
  /** How many they are. */
  held: number
  /** What the guard could not know. */
  detail?: string
}

/**
 * `log` when events come as they happen. Only then may what they cause reach beyond the database: a
 * repair and a rebuild read history again, and say nothing here.
 */
export type Origin = 'log' | undefined

export type Applied = { applied: number; duplicates: number; refusals: readonly Refusal[] }

/**
 * One read model. Its functions run inside the transaction that also moves the offset, or that
 * repairs an account.
 */
export type Projection = {
  name: string
  /**
   * Gets one partition's events in their order, and applies each at most once however often it
   * comes. Of an account with a refused event it applies what comes before that, and nothing after.
   */
  apply(
    transaction: Transaction,
    events: readonly ProjectedEvent[],
    origin?: Origin,
  ): Promise<Applied>
  /** How far the accounts are; one that is not there is left out. Locks nothing. */
  heads(database: Queryable, accounts: readonly string[]): Promise<ReadonlyMap<string, Head>>
  /** The same of at most `limit` accounts behind `after`, in the order of their ids' bytes. */
  headsAfter(database: Queryable, after: string, limit: number): Promise<ReadonlyMap<string, Head>>
  /**
   * The versions that readers see, for freshness. An account whose history here is another than the
   * command side's counts as 0: no version of it can be trusted.
   */
  versions(database: Queryable, accounts: readonly string[]): Promise<ReadonlyMap<string, number>>
  /** Removes an account, so that it can be built anew from its first event. */
  forget(transaction: Transaction, account: string): Promise<void>
  /** Moves an account past an event that is left out; false when there is no such account yet. */
  pass(
    transaction: Transaction,
    event: Pick<ProjectedEvent, 'account' | 'version' | 'id'>,
  ): Promise<boolean>
}
