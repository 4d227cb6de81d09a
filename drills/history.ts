// What the load was told, command by command: the only witness of what callers saw.

export const commandKinds = [
  'open',
  'deposit',
  'withdraw',
  'transfer',
  'hold',
  'capture',
  'release',
  'reverse',
  'limit',
  'details',
  'freeze',
  'unfreeze',
  'close',
  'reopen',
  'batch',
] as const
export type CommandKind = (typeof commandKinds)[number]

/** `unknown`: no answer, or one that says so (503, key in progress). */
export type Outcome = 'ok' | 'refused' | 'unknown'

export type HistoryEntry = {
  /** Idempotency-Key, and correlation id of the events: how they are found again. */
  key: string
  kind: CommandKind
  account: string
  /** Where there are two accounts: of a transfer and of a batch the payee, of a reversal the other. */
  to?: string
  /** Minor units; of an open its opening deposit, of a limit the new one. */
  amount: bigint
  sentMs: number
  first: Outcome
  /** After an unknown was resolved by sending it again with its key. */
  final: Outcome
  status: number | null
  /** The account's version as the answer says, of an accepted command. */
  version: number | null
}
