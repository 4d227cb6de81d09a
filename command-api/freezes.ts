import { Problem } from 'service/problem'
import { z } from 'zod'
import { stateAfter, type Account, type Named } from './account.ts'
import { openAccount, type Books } from './books.ts'
import type { AccountEvent } from './events.ts'
import { accountPath, printable } from './fields.ts'
import { born, form } from './form.ts'
import { problem } from './problems.ts'

// A freeze stops debits and holds, or credits, or all. Another scope takes the place of the one before
// it, so that nothing slips through in between.

export type FreezeAccount = Named & {
  kind: 'FreezeAccount'
  scope: NonNullable<Account['freeze']>
  reason: string
}

export type UnfreezeAccount = Named & { kind: 'UnfreezeAccount'; reason: string | null }

export const freezeForm = form({
  name: 'FreezeAccount',
  method: 'POST',
  path: '/accounts/:accountId/freeze',
  ifMatch: 'optional',
  params: accountPath,
  body: z.strictObject({ scope: z.enum(['all', 'debits', 'credits']), reason: printable(500) }),
  command: (params, body, birth): FreezeAccount => ({
    kind: 'FreezeAccount',
    ...params,
    ...born(birth),
    ...body,
  }),
})

export const unfreezeForm = form({
  name: 'UnfreezeAccount',
  method: 'POST',
  path: '/accounts/:accountId/unfreeze',
  ifMatch: 'optional',
  params: accountPath,
  body: z.strictObject({ reason: printable(500).optional() }).default({}),
  command: (params, body, birth): UnfreezeAccount => ({
    kind: 'UnfreezeAccount',
    ...params,
    ...born(birth),
    reason: body.reason ?? null,
  }),
})

export function freeze(books: Books, command: FreezeAccount): readonly AccountEvent[] | Problem {
  const account = openAccount(books, command.accountId)
  if (account instanceof Problem) return account
  const { scope, reason } = command
  if (account.freeze === scope) {
    return problem('already_frozen', { detail: account.id, extra: { freeze: scope } })
  }
  const payload = { accountId: account.id, scope, reason, after: stateAfter(account) }
  return [{ type: 'AccountFrozen.v1', at: command.at, payload }]
}

export function unfreeze(
  books: Books,
  command: UnfreezeAccount,
): readonly AccountEvent[] | Problem {
  const account = openAccount(books, command.accountId)
  if (account instanceof Problem) return account
  if (account.freeze === null) return problem('not_frozen', { detail: account.id })
  const payload = { accountId: account.id, reason: command.reason, after: stateAfter(account) }
  return [{ type: 'AccountUnfrozen.v1', at: command.at, payload }]
}
