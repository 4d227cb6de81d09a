import type { Kysely } from 'kysely'
import type { ReadDatabase } from 'migrations/read'
import { httpProblem } from 'service/problem'
import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import { findAccount, listAccounts, quarantineOf } from './account-reads.ts'
import { type CursorPlace, decodeCursor, encodeCursor } from './cursor.ts'
import { databaseFault } from './database-fault.ts'
import type { Freshness } from './freshness.ts'
import { problem } from './problems.ts'
import type { Queryable } from './transaction.ts'

const accountParams = z.strictObject({
  id: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -'),
})

const minorUnits = z
  .string()
  .regex(/^(0|-?[1-9]\d{0,17})$/, 'must be up to 18 digits, in minor units')
const moment = z.iso.datetime('must be a time in UTC, such as 2026-11-21T08:00:00Z')

/** Each parameter once; one that is not here is refused, since a misspelt filter filters nothing. */
const listQuery = z.strictObject({
  owner: z
    .string()
    .regex(/^[^\0]{1,200}$/, 'must be 1 to 200 characters')
    .optional(),
  status: z.enum(['open', 'closed']).optional(),
  currency: z
    .string()
    .regex(/^[A-Z]{3}$/, 'must be three capital letters')
    .optional(),
  minBalance: minorUnits.optional(),
  maxBalance: minorUnits.optional(),
  openedFrom: moment.optional(),
  openedTo: moment.optional(),
  limit: z
    .string()
    .regex(/^([1-9]\d?|100)$/, 'must be from 1 to 100')
    .transform(Number)
    .default(50),
  cursor: z.string().optional(),
})

export type AccountRoutesSettings = {
  /** Of the role sluice_query. */
  reader: Queryable
  /** The same, for statements that are put together. */
  database: Kysely<ReadDatabase>
  freshness: Freshness
  cursorSecret: string
}

/** What the projection `accounts` answers. */
export function accountRoutes(settings: AccountRoutesSettings): Route[] {
  const { freshness } = settings
  const read = (
    path: string,
    answer: (request: ApiRequest) => () => Promise<ApiAnswer>,
  ): Route => ({
    method: 'GET',
    path,
    // Parameters are judged before anything waits.
    handle: (request) => orUnavailable(() => freshness.read(request, answer(request))),
  })
  return [
    read('/accounts/:id', (request) => oneAccount(settings, request)),
    read('/accounts', (request) => accountList(settings, request)),
  ]
}

const noQuery = z.strictObject({})

function oneAccount({ reader, database }: AccountRoutesSettings, request: ApiRequest) {
  const { id } = parsePart(accountParams, request.params, 'path')
  parsePart(noQuery, request.query, 'query')
  return async (): Promise<ApiAnswer> => {
    const found = await findAccount(reader, id)
    if (found === undefined) {
      const quarantined = await quarantineOf(database, id)
      throw problem('account_not_found', { headers: quarantineHeader([{ id, quarantined }]) })
    }
    const { account, quarantined } = found
    const headers = { ETag: `"${account.version}"`, ...quarantineHeader([{ id, quarantined }]) }
    return { status: 200, headers, body: account }
  }
}

function accountList({ database, cursorSecret }: AccountRoutesSettings, request: ApiRequest) {
  const { limit, cursor, ...given } = parsePart(listQuery, request.query, 'query')
  const place: CursorPlace = { list: 'accounts', filters: given }
  const after = cursor === undefined ? undefined : decodeCursor(cursorSecret, place, cursor)
  if (cursor !== undefined && after === undefined) {
    throw problem('invalid_cursor', {
      detail: 'take `next` as it was given, and leave the filters as they were',
    })
  }
  const filters = {
    ...given,
    openedFrom: given.openedFrom === undefined ? undefined : new Date(given.openedFrom),
    openedTo: given.openedTo === undefined ? undefined : new Date(given.openedTo),
  }
  return async (): Promise<ApiAnswer> => {
    const { items, more } = await listAccounts(database, filters, { after, limit })
    const last = items.at(-1)?.account
    const next = more && last ? encodeCursor(cursorSecret, place, last.id) : null
    const quarantined = items.map((item) => ({ ...item, id: item.account.id }))
    const body = { items: items.map(({ account }) => account), next }
    return { status: 200, headers: quarantineHeader(quarantined), body }
  }
}

/** `Quarantined: acc-1=version_gap, acc-2=lost_tail`, of up to five accounts; nothing when sound. */
function quarantineHeader(
  accounts: readonly { id: string; quarantined: string | null }[],
): Record<string, string> {
  const named = accounts.filter(({ quarantined }) => quarantined !== null).slice(0, 5)
  if (named.length === 0) return {}
  return { Quarantined: named.map(({ id, quarantined }) => `${id}=${quarantined}`).join(', ') }
}

/** Postgres being away is no fault of ours to hide: the caller may come again. */
export async function orUnavailable(answer: () => Promise<ApiAnswer>): Promise<ApiAnswer> {
  try {
    return await answer()
  } catch (error) {
    if (databaseFault(error) !== 'passing') throw error
    throw httpProblem('unavailable', {
      detail: 'the read database does not answer',
      headers: { 'Retry-After': '1' },
    })
  }
}
