import { Problem } from 'service/problem'
import { z } from 'zod'
import { stateAfter, type Named } from './account.ts'
import { openAccount, type Books } from './books.ts'
import type { AccountEvent } from './events.ts'
import { accountPath } from './fields.ts'
import { born, form } from './form.ts'
import { amountOrZero } from './money.ts'
import { problem } from './problems.ts'

export type ChangeOverdraftLimit = Named & { kind: 'ChangeOverdraftLimit'; overdraftLimit: bigint }

export const overdraftForm = form({
  name: 'ChangeOverdraftLimit',
  method: 'PUT',
  path: '/accounts/:accountId/overdraft-limit',
  ifMatch: 'required',
  params: accountPath,
  body: z.strictObject({ overdraftLimit: amountOrZero }),
  command: (params, body, birth): ChangeOverdraftLimit => ({
    kind: 'ChangeOverdraftLimit',
    ...params,
    ...born(birth),
    overdraftLimit: BigInt(body.overdraftLimit),
  }),
})

/** A limit may always rise: also where a forced debit has taken more than it lends. */
export function changeOverdraftLimit(
  books: Books,
  command: ChangeOverdraftLimit,
): readonly AccountEvent[] | Problem {
  const account = openAccount(books, command.accountId)
  if (account instanceof Problem) return account
  const { overdraftLimit } = command
  const used = account.held - account.ledgerBalance
  if (overdraftLimit < used && overdraftLimit < account.overdraftLimit) {
    return problem('below_current_usage', { extra: { used: String(used) } })
  }
  const payload = {
    accountId: account.id,
    overdraftLimit: String(overdraftLimit),
    previousLimit: String(account.overdraftLimit),
    after: stateAfter(account, { overdraftLimit }),
  }
  return [{ type: 'OverdraftLimitChanged.v1', at: command.at, payload }]
}
