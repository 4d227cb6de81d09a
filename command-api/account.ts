import assert from 'node:assert/strict'
import { Problem } from 'service/problem'
import type { AccountEvent } from './events.ts'
import { balanceLimitMinor, exponentOf } from './money.ts'
import { problem } from './problems.ts'

// The account as a pure decider: decide(state, command) says what happens, evolve(state, event)
// makes it so. No clock, no ids, no I/O: what they need is in the command.

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

/** What every command names: its account, its transaction, the moment it is recorded at. */
type Named = { accountId: string; transactionId: string; at: string }

type Movement = Named & {
  amount: bigint
  currency: string
  reference: string | null
  effectiveAt: string
}

type OpenAccount = Named & {
  kind: 'OpenAccount'
  owner: string
  currency: string
  type: 'current' | 'savings'
  overdraftLimit: bigint
  openingDeposit: bigint | null
}

export type AccountCommand =
  | OpenAccount
  | ({ kind: 'Deposit' } & Movement)
  | ({ kind: 'Withdraw' } & Movement)
  | ({ kind: 'CloseAccount' } & Named)

/** One line of double entry: a credit of the account is positive. */
export type Entry = { accountId: string; currency: string; amount: bigint; effectiveAt: string }

/** What no debit may take below zero. */
export function availableOf(account: Account): bigint {
  return account.ledgerBalance - account.held + account.overdraftLimit
}

/** The events of an accepted command (never none), or the Problem that refuses it. */
export function decide(
  account: Account | null,
  command: AccountCommand,
): readonly AccountEvent[] | Problem {
  if (command.kind === 'OpenAccount') return open(account, command)
  if (account === null) return problem('account_not_found', { detail: command.accountId })
  if (account.status === 'closed') return problem('account_closed')
  switch (command.kind) {
    case 'Deposit':
      return deposit(account, command)
    case 'Withdraw':
      return withdraw(account, command)
    case 'CloseAccount':
      return close(account, command)
    default:
      return assert.fail(command satisfies never)
  }
}

function open(account: Account | null, command: OpenAccount): readonly AccountEvent[] | Problem {
  if (account !== null) return problem('account_id_taken', { detail: command.accountId })
  const exponent = exponentOf(command.currency)
  if (exponent === undefined) return problem('unsupported_currency', { detail: command.currency })
  const opened: AccountEvent = {
    type: 'AccountOpened.v1',
    at: command.at,
    payload: {
      accountId: command.accountId,
      owner: command.owner,
      currency: command.currency,
      exponent,
      type: command.type,
      overdraftLimit: String(command.overdraftLimit),
      metadata: {},
      after: {
        version: 1,
        ledgerBalance: '0',
        held: '0',
        available: String(command.overdraftLimit),
        status: 'open',
      },
    },
  }
  if (command.openingDeposit === null) return [opened]
  const first = deposit(evolve(null, opened), {
    ...command,
    amount: command.openingDeposit,
    reference: null,
    effectiveAt: command.at,
  })
  return first instanceof Problem ? first : [opened, ...first]
}

function deposit(account: Account, command: Movement): readonly AccountEvent[] | Problem {
  if (command.currency !== account.currency) return currencyMismatch(account, command)
  const ledgerBalance = account.ledgerBalance + command.amount
  if (ledgerBalance > balanceLimitMinor) return problem('balance_limit_exceeded')
  return [movement('FundsDeposited.v1', account, command, ledgerBalance)]
}

function withdraw(account: Account, command: Movement): readonly AccountEvent[] | Problem {
  if (command.currency !== account.currency) return currencyMismatch(account, command)
  const available = availableOf(account)
  if (command.amount > available) {
    return problem('insufficient_funds', {
      extra: { available: String(available), requested: String(command.amount) },
    })
  }
  return [movement('FundsWithdrawn.v1', account, command, account.ledgerBalance - command.amount)]
}

function close(account: Account, command: Named): readonly AccountEvent[] | Problem {
  if (account.held !== 0n) return problem('active_holds')
  if (account.ledgerBalance !== 0n) {
    return problem('balance_not_zero', { extra: { ledgerBalance: String(account.ledgerBalance) } })
  }
  const after = { ...stateAfter(account, account.ledgerBalance), status: 'closed' as const }
  const payload = { accountId: account.id, after }
  return [{ type: 'AccountClosed.v1', at: command.at, payload }]
}

function currencyMismatch(account: Account, command: Movement): Problem {
  return problem('currency_mismatch', {
    detail: `the account is in ${account.currency}, the amount in ${command.currency}`,
  })
}

function movement(
  type: 'FundsDeposited.v1' | 'FundsWithdrawn.v1',
  account: Account,
  command: Movement,
  ledgerBalance: bigint,
): AccountEvent {
  return {
    type,
    at: command.at,
    payload: {
      accountId: account.id,
      transactionId: command.transactionId,
      amount: String(command.amount),
      currency: command.currency,
      reference: command.reference,
      effectiveAt: command.effectiveAt,
      after: stateAfter(account, ledgerBalance),
    },
  }
}

function stateAfter(account: Account, ledgerBalance: bigint) {
  return {
    version: account.version + 1,
    ledgerBalance: String(ledgerBalance),
    held: String(account.held),
    available: String(availableOf({ ...account, ledgerBalance })),
    status: account.status,
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
  assert.equal(String(availableOf(next)), after.available, 'available after the event')
  assert.equal(next.status, after.status, 'status after the event')
  return next
}

function applied(account: Account | null, event: AccountEvent): Account {
  if (event.type === 'AccountOpened.v1') {
    assert.equal(account, null, 'an account is opened once')
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
  assert(account !== null, 'nothing happens to an account before it is opened')
  switch (event.type) {
    case 'FundsDeposited.v1':
      return { ...account, ledgerBalance: account.ledgerBalance + BigInt(event.payload.amount) }
    case 'FundsWithdrawn.v1':
      return { ...account, ledgerBalance: account.ledgerBalance - BigInt(event.payload.amount) }
    case 'AccountClosed.v1':
      return { ...account, status: 'closed' }
    default:
      return assert.fail(event satisfies never)
  }
}

/** The double entry of an event: none, or lines that sum to zero against the currency's cash. */
export function entriesOf(event: AccountEvent): readonly Entry[] {
  if (event.type !== 'FundsDeposited.v1' && event.type !== 'FundsWithdrawn.v1') return []
  const { accountId, currency, effectiveAt } = event.payload
  const size = BigInt(event.payload.amount)
  const amount = event.type === 'FundsDeposited.v1' ? size : -size
  return [
    { accountId, currency, amount, effectiveAt },
    { accountId: `sluice-cash-${currency}`, currency, amount: -amount, effectiveAt },
  ]
}
