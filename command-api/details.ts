import { Problem } from 'service/problem'
import { z } from 'zod'
import { stateAfter, type Account, type Named } from './account.ts'
import { openAccount, type Books } from './books.ts'
import type { AccountEvent } from './events.ts'
import { accountPath, printable } from './fields.ts'
import { born, form } from './form.ts'

/** What is not given stays; metadata is replaced as a whole. */
export type UpdateAccountDetails = Named & {
  kind: 'UpdateAccountDetails'
  owner: string | null
  metadata: Account['metadata'] | null
}

const entriesLimit = 50

const metadata = z
  .record(z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/), printable(500))
  .refine((given) => Object.keys(given).length <= entriesLimit, `at most ${entriesLimit} entries`)

export const detailsForm = form({
  name: 'UpdateAccountDetails',
  method: 'PATCH',
  path: '/accounts/:accountId',
  ifMatch: 'required',
  params: accountPath,
  body: z
    .strictObject({ owner: printable(200).optional(), metadata: metadata.optional() })
    .refine((body) => body.owner !== undefined || body.metadata !== undefined, {
      error: 'must say owner or metadata',
    }),
  command: (params, body, birth): UpdateAccountDetails => ({
    kind: 'UpdateAccountDetails',
    ...params,
    ...born(birth),
    owner: body.owner ?? null,
    metadata: body.metadata ?? null,
  }),
})

export function updateDetails(
  books: Books,
  command: UpdateAccountDetails,
): readonly AccountEvent[] | Problem {
  const account = openAccount(books, command.accountId)
  if (account instanceof Problem) return account
  const payload = {
    accountId: account.id,
    owner: command.owner ?? account.owner,
    metadata: command.metadata ?? account.metadata,
    after: stateAfter(account),
  }
  return [{ type: 'AccountDetailsUpdated.v1', at: command.at, payload }]
}
