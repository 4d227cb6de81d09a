import { Problem } from 'service/problem'
import { z } from 'zod'
import { evolve, frozen, stateAfter, type Account, type Named } from './account.ts'
import { openAccount, type Books } from './books.ts'
import type { AccountEvent } from './events.ts'
import { accountId, accountPath, noBody, printable } from './fields.ts'
import { born, form } from './form.ts'
import { amount, amountOrZero, currencyCode, exponentOf } from './money.ts'
import { deposit } from './movements.ts'
import { problem } from './problems.ts'

// Opening, closing, opening again.

export type OpenAccount = Named & {
  kind: 'OpenAccount'
  owner: string
  currency: string
  type: Account['type']
  overdraftLimit: bigint
  openingDeposit: bigint | null
}

export type CloseAccount = Named & { kind: 'CloseAccount' }
export type ReopenAccount = Named & { kind: 'ReopenAccount' }

export const openForm = form({
  name: 'OpenAccount',
  method: 'POST',
  path: '/accounts',
  ifMatch: 'none',
  params: z.strictObject({}),
  body: z.strictObject({
    id: accountId.optional(),
    owner: printable(200),
    currency: currencyCode,
    type: z.enum(['current', 'savings']).default('current'),
    overdraftLimit: amountOrZero.default('0'),
    openingDeposit: amount.optional(),
  }),
  command: (_, body, birth): OpenAccount => ({
    kind: 'OpenAccount',
    accountId: body.id ?? birth.newId(),
    ...born(birth),
    owner: body.owner,
    currency: body.currency,
    type: body.type,
    overdraftLimit: BigInt(body.overdraftLimit),
    openingDeposit: body.openingDeposit === undefined ? null : BigInt(body.openingDeposit),
  }),
})

export const closeForm = form({
  name: 'CloseAccount',
  method: 'POST',
  path: '/accounts/:accountId/close',
  ifMatch: 'required',
  params: accountPath,
  body: noBody,
  command: (params, _, birth): CloseAccount => ({
    kind: 'CloseAccount',
    ...params,
    ...born(birth),
  }),
})

export const reopenForm = form({
  name: 'ReopenAccount',
  method: 'POST',
  path: '/accounts/:accountId/reopen',
  ifMatch: 'optional',
  params: accountPath,
  body: noBody,
  command: (params, _, birth): ReopenAccount => ({
    kind: 'ReopenAccount',
    ...params,
    ...born(birth),
  }),
})

export function open(books: Books, command: OpenAccount): readonly AccountEvent[] | Problem {
  if (books.accounts.has(command.accountId)) {
    return problem('account_id_taken', { detail: command.accountId })
  }
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

export function close(books: Books, command: CloseAccount): readonly AccountEvent[] | Problem {
  const account = openAccount(books, command.accountId)
  if (account instanceof Problem) return account
  if (account.freeze !== null) return frozen(account)
  if (account.held !== 0n) {
    return problem('active_holds', { extra: { held: String(account.held) } })
  }
  if (account.ledgerBalance !== 0n) {
    return problem('balance_not_zero', { extra: { ledgerBalance: String(account.ledgerBalance) } })
  }
  const after = stateAfter(account, { status: 'closed' })
  return [{ type: 'AccountClosed.v1', at: command.at, payload: { accountId: account.id, after } }]
}

export function reopen(books: Books, command: ReopenAccount): readonly AccountEvent[] | Problem {
  const account = books.accounts.get(command.accountId)
  if (account === undefined) return problem('account_not_found', { detail: command.accountId })
  if (account.status === 'open') return problem('account_not_closed', { detail: account.id })
  const after = stateAfter(account, { status: 'open' })
  return [{ type: 'AccountReopened.v1', at: command.at, payload: { accountId: account.id, after } }]
}
