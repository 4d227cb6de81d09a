import type { AccountEvent } from './events.ts'

/** One line of double entry: a credit of the account is positive. */
export type Entry = { accountId: string; currency: string; amount: bigint; effectiveAt: string }

/**
 * The double entry of an event: none; or a line of its account and one of the currency's cash; or,
 * where another account has the other half, its own line alone. Each transaction sums to zero.
 */
export function entriesOf(event: AccountEvent): readonly Entry[] {
  const change = changeOf(event)
  if (change === null || !('effectiveAt' in event.payload)) return []
  const { accountId, currency, effectiveAt } = event.payload
  const own = { accountId, currency, amount: change, effectiveAt }
  if ('counterpartyId' in event.payload && event.payload.counterpartyId !== null) return [own]
  return [own, { ...own, accountId: `sluice-cash-${currency}`, amount: -change }]
}

/** What an event does to the ledger balance; null when it moves no money. */
function changeOf(event: AccountEvent): bigint | null {
  switch (event.type) {
    case 'FundsDeposited.v1':
    case 'FundsTransferredIn.v1':
      return BigInt(event.payload.amount)
    case 'FundsWithdrawn.v1':
    case 'FundsTransferredOut.v1':
    case 'FundsForceDebited.v1':
    case 'HoldCaptured.v1':
      return -BigInt(event.payload.amount)
    case 'TransactionReversed.v1':
      return BigInt(event.payload.amount) * (event.payload.direction === 'credit' ? 1n : -1n)
    default:
      return null
  }
}
