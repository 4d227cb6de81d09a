import assert from 'node:assert/strict'
import type { Problem } from 'service/problem'
import { evolve, type Account } from './account.ts'
import type { AccountEvent } from './events.ts'
import { problem } from './problems.ts'

// What a command is decided on: the accounts it touches, and the holds and transactions it names. A
// hold is part of its account, and changes only under the account's lock.

export type Hold = {
  id: string
  accountId: string
  amount: bigint
  status: 'active' | 'captured' | 'released' | 'expired'
  expiresAt: string
}

/** What a transaction moved on accounts of ours, and whether it was moved back. */
export type Transaction = {
  id: string
  lines: readonly { accountId: string; currency: string; amount: bigint }[]
  /** The transaction that reversed it. */
  reversedBy: string | null
  /** Whether it is a reversal itself. */
  reverses: boolean
}

export type Books = {
  accounts: ReadonlyMap<string, Account>
  holds: ReadonlyMap<string, Hold>
  transactions: ReadonlyMap<string, Transaction>
}

/** The account, if it exists and is open. */
export function openAccount(books: Books, id: string): Account | Problem {
  const account = books.accounts.get(id)
  if (account === undefined) return problem('account_not_found', { detail: id })
  return account.status === 'closed' ? problem('account_closed', { detail: id }) : account
}

/**
 * What events change: the accounts, holds and reversed transactions as they are after them, and
 * nothing else. Pure: the books stay as they are.
 */
export function changesOf(books: Books, events: readonly AccountEvent[]): Books {
  const accounts = new Map<string, Account>()
  const holds = new Map<string, Hold>()
  const transactions = new Map<string, Transaction>()
  for (const event of events) {
    const id = event.payload.accountId
    accounts.set(id, evolve(accounts.get(id) ?? books.accounts.get(id) ?? null, event))
    if ('holdId' in event.payload) {
      const { holdId } = event.payload
      holds.set(holdId, holdAfter(books.holds.get(holdId) ?? null, event))
    }
    if (event.type === 'TransactionReversed.v1') {
      const { reversedTransactionId, transactionId } = event.payload
      const reversed = books.transactions.get(reversedTransactionId)
      assert(reversed !== undefined, 'what is reversed was read')
      transactions.set(reversed.id, { ...reversed, reversedBy: transactionId })
    }
  }
  return { accounts, holds, transactions }
}

/** A hold after an event of its account that names it. */
export function holdAfter(hold: Hold | null, event: AccountEvent): Hold {
  switch (event.type) {
    case 'HoldPlaced.v1': {
      assert.equal(hold, null, 'a hold is placed once')
      const { holdId: id, accountId, amount, expiresAt } = event.payload
      return { id, accountId, amount: BigInt(amount), status: 'active', expiresAt }
    }
    case 'HoldCaptured.v1': {
      const { amount, released } = event.payload
      return ended(hold, 'captured', BigInt(amount) + BigInt(released))
    }
    case 'HoldReleased.v1':
      return ended(hold, 'released', BigInt(event.payload.amount))
    case 'HoldExpired.v1':
      return ended(hold, 'expired', BigInt(event.payload.amount))
    default:
      return assert.fail(`${event.type} names no hold`)
  }
}

function ended(hold: Hold | null, status: Hold['status'], amount: bigint): Hold {
  assert(hold?.status === 'active', 'a hold ends once')
  assert.equal(amount, hold.amount, 'a hold ends as a whole')
  return { ...hold, status }
}
