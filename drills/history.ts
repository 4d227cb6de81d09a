// What the load was told, command by command: the only witness of what callers saw.

export type CommandKind = 'open' | 'deposit' | 'withdraw' | 'close' | 'transfer'

/** `unknown`: no answer, or one that says so (503, key in progress). */
export type Outcome = 'ok' | 'refused' | 'unknown'

export type HistoryEntry = {
  /** Idempotency-Key, and correlation id of the events: how they are found again. */
  key: string
  kind: CommandKind
  account: string
  /** Of a transfer: where the money went. */
  to?: string
  /** Minor units; of an open its opening deposit. */
  amount: bigint
  sentMs: number
  first: Outcome
  /** After an unknown was resolved by sending it again with its key. */
  final: Outcome
  status: number | null
  /** The account's version as the answer says, of an accepted command; of a transfer the payer's. */
  version: number | null
}
