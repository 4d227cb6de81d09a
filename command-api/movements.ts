import { Problem } from 'service/problem'
import { z } from 'zod'
import {
  availableOf,
  creditFault,
  currencyFault,
  debitFault,
  stateAfter,
  type Account,
  type Named,
} from './account.ts'
import { openAccount, type Books } from './books.ts'
import type { AccountEvent } from './events.ts'
import { accountPath, movementFields, printable } from './fields.ts'
import { form, movementOf } from './form.ts'
import { currencyCode } from './money.ts'
import { problem } from './problems.ts'

// Money that comes to one account from outside, or leaves it.

type Movement = Named & {
  amount: bigint
  currency?: string | undefined
  reference: string | null
  effectiveAt: string
}

export type Deposit = { kind: 'Deposit' } & Movement
export type Withdraw = { kind: 'Withdraw' } & Movement

/** Takes what is owed, freeze and available notwithstanding: at most `limit` below zero. */
export type ForceDebit = { kind: 'ForceDebit'; reason: string; limit: bigint } & Movement

function movementForm<Kind extends 'Deposit' | 'Withdraw'>(kind: Kind, path: string) {
  return form({
    name: kind,
    method: 'POST',
    path,
    ifMatch: 'optional',
    params: accountPath,
    body: z.strictObject({ ...movementFields, currency: currencyCode }),
    command: (params, body, birth) => ({
      kind,
      ...params,
      ...movementOf(body, birth),
      amount: BigInt(body.amount),
      currency: body.currency,
    }),
  })
}

export const depositForm = movementForm('Deposit', '/accounts/:accountId/deposits')
export const withdrawForm = movementForm('Withdraw', '/accounts/:accountId/withdrawals')

/** `limit`: how far below zero a forced debit may take what is available, in minor units. */
export const forceDebitForm = (limit: bigint) =>
  form({
    name: 'ForceDebit',
    method: 'POST',
    path: '/accounts/:accountId/force-debits',
    ifMatch: 'optional',
    role: 'operator',
    params: accountPath,
    body: z.strictObject({ ...movementFields, reason: printable(500) }),
    command: (params, body, birth): ForceDebit => ({
      kind: 'ForceDebit',
      ...params,
      ...movementOf(body, birth),
      amount: BigInt(body.amount),
      currency: body.currency,
      reason: body.reason,
      limit,
    }),
  })

export function decideMovement(
  books: Books,
  command: Deposit | Withdraw | ForceDebit,
): readonly AccountEvent[] | Problem {
  const account = openAccount(books, command.accountId)
  if (account instanceof Problem) return account
  if (command.kind === 'Deposit') return deposit(account, command)
  if (command.kind === 'Withdraw') return withdraw(account, command)
  return forceDebit(account, command)
}

export function deposit(account: Account, command: Movement): readonly AccountEvent[] | Problem {
  const fault = currencyFault(account, command.currency) ?? creditFault(account, command.amount)
  if (fault !== null) return fault
  return [{ type: 'FundsDeposited.v1', ...movement(account, command, command.amount) }]
}

function withdraw(account: Account, command: Movement): readonly AccountEvent[] | Problem {
  const fault = currencyFault(account, command.currency) ?? debitFault(account, command.amount)
  if (fault !== null) return fault
  return [{ type: 'FundsWithdrawn.v1', ...movement(account, command, -command.amount) }]
}

function forceDebit(account: Account, command: ForceDebit): readonly AccountEvent[] | Problem {
  const fault = currencyFault(account, command.currency)
  if (fault !== null) return fault
  const available = availableOf(account)
  if (available - command.amount < -command.limit) {
    const extra = { available: String(available), requested: String(command.amount) }
    return problem('force_limit_exceeded', { extra: { ...extra, limit: String(command.limit) } })
  }
  const { at, payload } = movement(account, command, -command.amount)
  const { after, ...moved } = payload
  return [
    { type: 'FundsForceDebited.v1', at, payload: { ...moved, reason: command.reason, after } },
  ]
}

function movement(account: Account, command: Movement, change: bigint) {
  return {
    at: command.at,
    payload: {
      accountId: account.id,
      transactionId: command.transactionId,
      amount: String(command.amount),
      currency: account.currency,
      reference: command.reference,
      effectiveAt: command.effectiveAt,
      after: stateAfter(account, { ledgerBalance: account.ledgerBalance + change }),
    },
  }
}
