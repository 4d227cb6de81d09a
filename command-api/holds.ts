import assert from 'node:assert/strict'
import { Problem } from 'service/problem'
import { z } from 'zod'
import {
  currencyFault,
  debitFault,
  frozen,
  stateAfter,
  type Account,
  type Named,
} from './account.ts'
import { openAccount, type Books, type Hold } from './books.ts'
import type { AccountEvent } from './events.ts'
import { accountId, accountPath, movementFields, noBody } from './fields.ts'
import { form, movementOf, born } from './form.ts'
import { amount, balanceLimitMinor } from './money.ts'
import { problem } from './problems.ts'

// A hold sets money aside for a debit that is to come: placed, then captured, released or expired,
// once. From the moment it expires it can no longer be captured, whether the timer has come or not.

export type PlaceHold = Named & {
  kind: 'PlaceHold'
  holdId: string
  amount: bigint
  currency?: string | undefined
  reference: string | null
  expiresAt: string
}

/** `amount` null captures the whole hold. */
export type CaptureHold = Named & {
  kind: 'CaptureHold'
  holdId: string
  amount: bigint | null
  currency?: string | undefined
  reference: string | null
  effectiveAt: string
}

export type ReleaseHold = Named & { kind: 'ReleaseHold'; holdId: string }
/** The timer's: nobody sends it. */
export type ExpireHold = Named & { kind: 'ExpireHold'; holdId: string }

const holdPath = z.strictObject({ accountId, holdId: z.uuid().toLowerCase() })
const daysSeconds = 86_400
const { effectiveAt: _, ...placingFields } = movementFields

export const placeHoldForm = form({
  name: 'PlaceHold',
  method: 'POST',
  path: '/accounts/:accountId/holds',
  ifMatch: 'optional',
  params: accountPath,
  body: z.strictObject({
    ...placingFields,
    expiresInSeconds: z
      .int()
      .min(1)
      .max(366 * daysSeconds)
      .default(7 * daysSeconds),
  }),
  command: (params, body, birth): PlaceHold => {
    const named = born(birth)
    const expiresMs = new Date(named.at).getTime() + body.expiresInSeconds * 1_000
    return {
      kind: 'PlaceHold',
      ...params,
      ...named,
      holdId: birth.newId(),
      amount: BigInt(body.amount),
      currency: body.currency,
      reference: body.reference ?? null,
      expiresAt: new Date(expiresMs).toISOString(),
    }
  },
})

export const captureHoldForm = form({
  name: 'CaptureHold',
  method: 'POST',
  path: '/accounts/:accountId/holds/:holdId/capture',
  ifMatch: 'optional',
  params: holdPath,
  body: z.strictObject({ ...movementFields, amount: amount.optional() }).default({}),
  command: (params, body, birth): CaptureHold => ({
    kind: 'CaptureHold',
    ...params,
    ...movementOf(body, birth),
    amount: body.amount === undefined ? null : BigInt(body.amount),
    currency: body.currency,
  }),
})

export const releaseHoldForm = form({
  name: 'ReleaseHold',
  method: 'POST',
  path: '/accounts/:accountId/holds/:holdId/release',
  ifMatch: 'optional',
  params: holdPath,
  body: noBody,
  command: (params, _body, birth): ReleaseHold => ({
    kind: 'ReleaseHold',
    ...params,
    ...born(birth),
  }),
})

export function placeHold(books: Books, command: PlaceHold): readonly AccountEvent[] | Problem {
  const account = openAccount(books, command.accountId)
  if (account instanceof Problem) return account
  const held = account.held + command.amount
  const fault = currencyFault(account, command.currency) ?? debitFault(account, command.amount)
  if (fault !== null) return fault
  if (held > balanceLimitMinor) return problem('balance_limit_exceeded', { detail: account.id })
  const { holdId, reference, expiresAt } = command
  const payload = {
    accountId: account.id,
    holdId,
    amount: String(command.amount),
    currency: account.currency,
    reference,
    expiresAt,
    after: stateAfter(account, { held }),
  }
  return [{ type: 'HoldPlaced.v1', at: command.at, payload }]
}

export function captureHold(books: Books, command: CaptureHold): readonly AccountEvent[] | Problem {
  const found = activeHold(books, command)
  if (found instanceof Problem) return found
  const { account, hold } = found
  if (hold.expiresAt <= command.at) return notActive(hold, 'expired')
  if (account.freeze === 'all' || account.freeze === 'debits') return frozen(account)
  const fault = currencyFault(account, command.currency)
  if (fault !== null) return fault
  const captured = command.amount ?? hold.amount
  if (captured > hold.amount) {
    const extra = { held: String(hold.amount), requested: String(captured) }
    return problem('exceeds_held_amount', { extra })
  }
  const { transactionId, reference, effectiveAt } = command
  const payload = {
    accountId: account.id,
    transactionId,
    holdId: hold.id,
    amount: String(captured),
    released: String(hold.amount - captured),
    currency: account.currency,
    reference,
    effectiveAt,
    after: stateAfter(account, {
      ledgerBalance: account.ledgerBalance - captured,
      held: account.held - hold.amount,
    }),
  }
  return [{ type: 'HoldCaptured.v1', at: command.at, payload }]
}

export function endHold(
  books: Books,
  command: ReleaseHold | ExpireHold,
): readonly AccountEvent[] | Problem {
  const found = activeHold(books, command)
  if (found instanceof Problem) return found
  const { account, hold } = found
  const payload = {
    accountId: account.id,
    holdId: hold.id,
    amount: String(hold.amount),
    currency: account.currency,
    after: stateAfter(account, { held: account.held - hold.amount }),
  }
  if (command.kind === 'ReleaseHold') return [{ type: 'HoldReleased.v1', at: command.at, payload }]
  assert(hold.expiresAt <= command.at, 'a hold expires when its time has come')
  return [{ type: 'HoldExpired.v1', at: command.at, payload }]
}

function activeHold(
  books: Books,
  { accountId: id, holdId }: { accountId: string; holdId: string },
): { account: Account; hold: Hold } | Problem {
  const account = openAccount(books, id)
  if (account instanceof Problem) return account
  const hold = books.holds.get(holdId)
  if (hold?.accountId !== id) return problem('hold_not_found', { detail: holdId })
  return hold.status === 'active' ? { account, hold } : notActive(hold, hold.status)
}

function notActive(hold: Hold, status: Hold['status']): Problem {
  return problem('hold_not_active', { detail: hold.id, extra: { holdStatus: status } })
}
