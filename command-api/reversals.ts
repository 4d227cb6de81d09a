import { Problem } from 'service/problem'
import { z } from 'zod'
import { creditFault, debitFault, stateAfter } from './account.ts'
import { openAccount, type Books, type Transaction } from './books.ts'
import type { AccountEvent } from './events.ts'
import { printable } from './fields.ts'
import { born, form } from './form.ts'
import { problem } from './problems.ts'

// A reversal moves back, on each account of a transaction, what it moved there: a transaction of its
// own, linked to the first, under the same rules as any debit and credit. Once, and not of itself.

export type ReverseTransaction = {
  kind: 'ReverseTransaction'
  reversedTransactionId: string
  transactionId: string
  at: string
  reference: string | null
}

export const reversalForm = form({
  name: 'ReverseTransaction',
  method: 'POST',
  path: '/transactions/:transactionId/reversal',
  ifMatch: 'none',
  params: z.strictObject({ transactionId: z.uuid().toLowerCase() }),
  body: z.strictObject({ reference: printable(200).optional() }).default({}),
  command: (params, body, birth): ReverseTransaction => ({
    kind: 'ReverseTransaction',
    reversedTransactionId: params.transactionId,
    ...born(birth),
    reference: body.reference ?? null,
  }),
})

export function reverse(
  books: Books,
  command: ReverseTransaction,
): readonly AccountEvent[] | Problem {
  const detail = command.reversedTransactionId
  const reversed = books.transactions.get(detail)
  if (reversed === undefined) return problem('transaction_not_found', { detail })
  if (reversed.reverses) return problem('not_reversible', { detail })
  if (reversed.reversedBy !== null) {
    return problem('already_reversed', { detail, extra: { reversedBy: reversed.reversedBy } })
  }
  const events: AccountEvent[] = []
  for (const line of reversed.lines) {
    const event = reversalOf(books, command, reversed, line)
    if (event instanceof Problem) return event
    events.push(event)
  }
  return events
}

function reversalOf(
  books: Books,
  command: ReverseTransaction,
  reversed: Transaction,
  line: Transaction['lines'][number],
): AccountEvent | Problem {
  const account = openAccount(books, line.accountId)
  if (account instanceof Problem) return account
  const change = -line.amount
  const fault = change < 0n ? debitFault(account, -change) : creditFault(account, change)
  if (fault !== null) return fault
  const counterparty = reversed.lines.find((other) => other.accountId !== line.accountId)
  return {
    type: 'TransactionReversed.v1',
    at: command.at,
    payload: {
      accountId: account.id,
      transactionId: command.transactionId,
      amount: String(change < 0n ? -change : change),
      currency: account.currency,
      reference: command.reference,
      effectiveAt: command.at,
      reversedTransactionId: reversed.id,
      direction: change < 0n ? 'debit' : 'credit',
      counterpartyId: counterparty?.accountId ?? null,
      after: stateAfter(account, { ledgerBalance: account.ledgerBalance + change }),
    },
  }
}
