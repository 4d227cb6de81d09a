// Commands as tests give them: on `acc-1`, unless they say otherwise.
import { entriesOf } from './entries.ts'
import type { Account } from './account.ts'
import type { Books, Transaction } from './books.ts'
import type { Command } from './commands.ts'
import type { AccountEvent } from './events.ts'

const at = '2026-01-02T03:04:05.678Z'
export const later = '2026-01-03T00:00:00.000Z'

type Of<Kind extends Command['kind']> = Extract<Command, { kind: Kind }>

/** A transaction's id, one for each kind of command. */
const kinds = [
  'OpenAccount',
  'Deposit',
  'Withdraw',
  'Transfer',
  'CaptureHold',
  'ForceDebit',
] as const
const uuid = (n: number) => `0b9f7a52-3c58-4ce4-9d2f-${String(n).padStart(12, '0')}`
const transactionOf = (kind: string) => uuid(100 + kinds.findIndex((each) => each === kind))
const holdId = uuid(1)

const named = (kind: string) => ({
  accountId: 'acc-1',
  transactionId: transactionOf(kind),
  at,
})

const moved = (kind: string) => ({
  ...named(kind),
  currency: 'EUR',
  reference: null,
  effectiveAt: at,
})

export const noBooks: Books = {
  accounts: new Map(),
  holds: new Map(),
  transactions: new Map(),
}

export const open = (overrides: Partial<Of<'OpenAccount'>> = {}): Of<'OpenAccount'> => ({
  ...named('OpenAccount'),
  kind: 'OpenAccount',
  owner: 'Ada',
  currency: 'EUR',
  type: 'current',
  overdraftLimit: 0n,
  openingDeposit: null,
  ...overrides,
})

export const deposit = (amount: bigint, overrides: Partial<Of<'Deposit'>> = {}): Command => ({
  ...moved('Deposit'),
  kind: 'Deposit',
  amount,
  ...overrides,
})

export const withdraw = (amount: bigint, overrides: Partial<Of<'Withdraw'>> = {}): Command => ({
  ...moved('Withdraw'),
  kind: 'Withdraw',
  amount,
  ...overrides,
})

export const forceDebit = (amount: bigint): Command => ({
  ...moved('ForceDebit'),
  kind: 'ForceDebit',
  amount,
  reason: 'a fee',
  limit: 100n,
})

/** From acc-1 to acc-2. */
export const transfer = (
  amount: bigint,
  { to = 'acc-2', currency = 'EUR' } = {},
): Of<'Transfer'> => ({
  kind: 'Transfer',
  transferId: uuid(2),
  transactionId: transactionOf('Transfer'),
  at,
  from: 'acc-1',
  to,
  amount,
  currency,
  reference: null,
  effectiveAt: at,
})

export const placeHold = (amount: bigint, n = 1): Of<'PlaceHold'> => ({
  ...named('PlaceHold'),
  kind: 'PlaceHold',
  holdId: uuid(n),
  amount,
  reference: null,
  expiresAt: later,
})

export const capture = (amount: bigint | null = null): Of<'CaptureHold'> => ({
  ...moved('CaptureHold'),
  kind: 'CaptureHold',
  holdId,
  amount,
})

export const release: Command = { ...named('ReleaseHold'), kind: 'ReleaseHold', holdId }
export const expire: Command = { ...named('ExpireHold'), kind: 'ExpireHold', holdId, at: later }
export const close: Of<'CloseAccount'> = { ...named('CloseAccount'), kind: 'CloseAccount' }
export const reopen: Command = { ...named('ReopenAccount'), kind: 'ReopenAccount' }

export const freeze = (scope: NonNullable<Account['freeze']>): Of<'FreezeAccount'> => ({
  ...named('FreezeAccount'),
  kind: 'FreezeAccount',
  scope,
  reason: 'a court',
})

export const unfreeze: Command = {
  ...named('UnfreezeAccount'),
  kind: 'UnfreezeAccount',
  reason: null,
}

export const limit = (overdraftLimit: bigint): Command => ({
  ...named('ChangeOverdraftLimit'),
  kind: 'ChangeOverdraftLimit',
  overdraftLimit,
})

export const details = (
  given: Partial<Pick<Of<'UpdateAccountDetails'>, 'owner' | 'metadata'>>,
): Command => ({
  ...named('UpdateAccountDetails'),
  kind: 'UpdateAccountDetails',
  owner: null,
  metadata: null,
  ...given,
})

/** Reverses the transaction that commands of a kind made. */
export const reverse = (kind: Command['kind']): Command => ({
  kind: 'ReverseTransaction',
  reversedTransactionId: transactionOf(kind),
  transactionId: transactionOf('ReverseTransaction'),
  at,
  reference: null,
})

/** The transactions that events make, as the entries tell of them. */
export function transactionsOf(events: readonly AccountEvent[]): Map<string, Transaction> {
  const lines = events.flatMap((event) =>
    entriesOf(event)
      .filter((entry) => !entry.accountId.startsWith('sluice-'))
      .map((entry) => ({
        ...entry,
        id: (event.payload as { transactionId: string }).transactionId,
        reverses: event.type === 'TransactionReversed.v1',
      })),
  )
  return new Map(
    [...Map.groupBy(lines, (line) => line.id)].map(([id, own]) => [
      id,
      { id, lines: own, reversedBy: null, reverses: own.some((line) => line.reverses) },
    ]),
  )
}

/** The books after changes. */
export const merge = (books: Books, changes: Books): Books => ({
  accounts: new Map([...books.accounts, ...changes.accounts]),
  holds: new Map([...books.holds, ...changes.holds]),
  transactions: new Map([...books.transactions, ...changes.transactions]),
})
