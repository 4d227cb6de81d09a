import assert from 'node:assert/strict'
import type { Problem } from 'service/problem'
import type { AccountEvent } from './events.ts'
import { balanceLimitMinor } from './money.ts'
import { problem } from './problems.ts'

// The account: what it is, what it lets happen, and evolve(account, event), which makes it so. No
// clock, no ids, no I/O.

/** Money is bigint minor units, times RFC 3339 UTC text. */
export type Account = {
  id: string
  owner: string
  currency: string
  exponent: number
  type: 'current' | 'savings'
  status: 'open' | 'closed'
  freeze: 'all' | 'debits' | 'credits' | null
  ledgerBalance: bigint
  held: bigint
  overdraftLimit: bigint
  metadata: Readonly<Record<string, unknown>>
  version: number
  openedAt: string
  asOf: string
}

/** What a command on one account names: it, its transaction, the moment it is recorded at. */
export type Named = { accountId: string; transactionId: string; at: string }

/** What no debit or hold may take below zero. */
export function availableOf(account: Account): bigint {
  return account.ledgerBalance - account.held + account.overdraftLimit
}

/** Why money may not leave the account, or be held on it; null when it may. */
export function debitFault(account: Account, amount: bigint): Problem | null {
  if (account.freeze === 'all' || account.freeze === 'debits') return frozen(account)
  const available = availableOf(account)
  if (amount <= available) return null
  return problem('insufficient_funds', {
    detail: account.id,
    extra: { available: String(available), requested: String(amount) },
  })
}

/** Why money may not come to the account; null when it may. */
export function creditFault(account: Account, amount: bigint): Problem | null {
  if (account.freeze === 'all' || account.freeze === 'credits') return frozen(account)
  if (account.ledgerBalance + amount <= balanceLimitMinor) return null
  return problem('balance_limit_exceeded', { detail: account.id })
}

export function frozen({ id, freeze }: Account): Problem {
  return problem('account_frozen', { detail: id, extra: { freeze } })
}

/** Why an amount in this currency is not the account's; null when it is, or goes without saying. */
export function currencyFault(account: Account, currency: string | undefined): Problem | null {
  if (currency === undefined || currency === account.currency) return null
  return problem('currency_mismatch', {
    detail: `${account.id} is in ${account.currency}, the amount in ${currency}`,
  })
}

/** What an event says of the account after it. */
export function stateAfter(account: Account, change: Partial<Account> = {}) {
  const next = { ...account, ...change }
  return {
    version: account.version + 1,
    ledgerBalance: String(next.ledgerBalance),
    held: String(next.held),
    available: String(availableOf(next)),
    status: next.status,
  }
}

/**
 * The state after an event, computed from what happened, not copied from the event's own account of
 * it: the two must agree, and the assertion at the end holds them to it.
 */
export function evolve(account: Account | null, event: AccountEvent): Account {
  const next = { ...applied(account, event), version: (account?.version ?? 0) + 1, asOf: event.at }
  const { after } = event.payload
  assert.equal(next.version, after.version, 'an event is applied to the version before it')
  assert.equal(String(next.ledgerBalance), after.ledgerBalance, 'balance after the event')
  assert.equal(String(next.held), after.held, 'held after the event')
  assert.equal(String(availableOf(next)), after.available, 'available after the event')
  assert.equal(next.status, after.status, 'status after the event')
  return next
}

function applied(account: Account | null, event: AccountEvent): Account {
  if (event.type === 'AccountOpened.v1') {
    assert.equal(account, null, 'an account is opened once')
    return opened(event)
  }
  assert(account !== null, 'nothing happens to an account before it is opened')
  assert.equal(account.id, event.payload.accountId, 'an event happens to its own account')
  const moved = (change: bigint) => ({ ...account, ledgerBalance: account.ledgerBalance + change })
  switch (event.type) {
    case 'FundsDeposited.v1':
    case 'FundsTransferredIn.v1':
      return moved(BigInt(event.payload.amount))
    case 'FundsWithdrawn.v1':
    case 'FundsTransferredOut.v1':
    case 'FundsForceDebited.v1':
      return moved(-BigInt(event.payload.amount))
    case 'TransactionReversed.v1':
      return moved(BigInt(event.payload.amount) * (event.payload.direction === 'credit' ? 1n : -1n))
    case 'HoldPlaced.v1':
      return { ...account, held: account.held + BigInt(event.payload.amount) }
    case 'HoldCaptured.v1': {
      const { amount, released } = event.payload
      return {
        ...moved(-BigInt(amount)),
        held: account.held - BigInt(amount) - BigInt(released),
      }
    }
    case 'HoldReleased.v1':
    case 'HoldExpired.v1':
      return { ...account, held: account.held - BigInt(event.payload.amount) }
    case 'AccountFrozen.v1':
      return { ...account, freeze: event.payload.scope }
    case 'AccountUnfrozen.v1':
      return { ...account, freeze: null }
    case 'OverdraftLimitChanged.v1':
      return { ...account, overdraftLimit: BigInt(event.payload.overdraftLimit) }
    case 'AccountDetailsUpdated.v1':
      return { ...account, owner: event.payload.owner, metadata: event.payload.metadata }
    case 'AccountClosed.v1':
      return { ...account, status: 'closed' }
    case 'AccountReopened.v1':
      return { ...account, status: 'open' }
    default:
      return assert.fail(event satisfies never)
  }
}

function opened(event: Extract<AccountEvent, { type: 'AccountOpened.v1' }>): Account {
  const { accountId, overdraftLimit, owner, currency, exponent, type, metadata } = event.payload
  return {
    id: accountId,
    owner,
    currency,
    exponent,
    type,
    status: 'open',
    freeze: null,
    ledgerBalance: 0n,
    held: 0n,
    overdraftLimit: BigInt(overdraftLimit),
    metadata,
    version: 0,
    openedAt: event.at,
    asOf: event.at,
  }
}
