import { Problem } from 'service/problem'
import { z } from 'zod'
import { creditFault, currencyFault, debitFault, stateAfter, type Account } from './account.ts'
import { openAccount, type Books } from './books.ts'
import type { AccountEvent } from './events.ts'
import { accountId, movementFields } from './fields.ts'
import { form, movementOf } from './form.ts'
import { problem } from './problems.ts'

// From one account to another, in one transaction: both halves happen or neither does.

export type Transfer = {
  kind: 'Transfer'
  transferId: string
  transactionId: string
  at: string
  from: string
  to: string
  amount: bigint
  currency?: string | undefined
  reference: string | null
  effectiveAt: string
}

export const transferForm = form({
  name: 'Transfer',
  method: 'POST',
  path: '/transfers',
  ifMatch: 'none',
  params: z.strictObject({}),
  body: z.strictObject({ from: accountId, to: accountId, ...movementFields }),
  command: (_, body, birth): Transfer => ({
    kind: 'Transfer',
    transferId: birth.newId(),
    ...movementOf(body, birth),
    from: body.from,
    to: body.to,
    amount: BigInt(body.amount),
    currency: body.currency,
  }),
})

export function transfer(books: Books, command: Transfer): readonly AccountEvent[] | Problem {
  const { amount } = command
  if (command.from === command.to) return problem('same_account', { detail: command.from })
  const from = openAccount(books, command.from)
  if (from instanceof Problem) return from
  const to = openAccount(books, command.to)
  if (to instanceof Problem) return to
  const fault =
    currencyFault(from, command.currency) ??
    currencyFault(to, from.currency) ??
    debitFault(from, amount) ??
    creditFault(to, amount)
  if (fault !== null) return fault
  return [
    { type: 'FundsTransferredOut.v1', ...half(command, from, to.id, -amount) },
    { type: 'FundsTransferredIn.v1', ...half(command, to, from.id, amount) },
  ]
}

function half(command: Transfer, account: Account, counterpartyId: string, change: bigint) {
  const { at, transactionId, transferId, reference, effectiveAt } = command
  return {
    at,
    payload: {
      accountId: account.id,
      transactionId,
      transferId,
      counterpartyId,
      amount: String(command.amount),
      currency: account.currency,
      reference,
      effectiveAt,
      after: stateAfter(account, { ledgerBalance: account.ledgerBalance + change }),
    },
  }
}
