import type { Kysely, Selectable } from 'kysely'
import type { ReadAccountTable, ReadDatabase } from 'migrations/read'
import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import type { CursorPlace } from '../cursor.ts'
import { leastOf } from '../freshness.ts'
import {
  accountMissing,
  accountParams,
  cursorPosition,
  moment,
  nextCursor,
  noQuery,
  orUnavailable,
  pageParams,
  quarantineHeader,
  readRoute,
  type ReadSettings,
} from '../reading.ts'
import type { Queryable } from '../transaction.ts'
import { accounts } from './accounts.ts'
import { membersOf, type Tier, tierNamed } from './tiers-reads.ts'
import { tiers } from './tiers.ts'

// What is asked of the projection `accounts`. An account in quarantine is answered as it is stored,
// and every answer says which of its accounts are.

type AccountResource = ReturnType<typeof resourceOf>

/** `quarantined` is the code of why it is not kept up at present; null when it is. */
type Quarantined = { quarantined: string | null }
type FoundAccount = Quarantined & { account: AccountResource }

/** The account as callers see it: amounts are strings of minor units, times RFC 3339 in UTC. */
function resourceOf(row: Selectable<ReadAccountTable>) {
  return {
    id: row.id,
    owner: row.owner,
    currency: row.currency,
    exponent: row.exponent,
    type: row.type,
    status: row.status,
    freeze: row.frozen,
    ledgerBalance: row.ledger_balance,
    held: row.held,
    available: row.available,
    overdraftLimit: row.overdraft_limit,
    metadata: row.metadata,
    version: Number(row.version),
    openedAt: row.opened_at.toISOString(),
    asOf: row.as_of.toISOString(),
  }
}

/** A named statement: planning it would cost more than answering it. */
export async function findAccount(
  database: Queryable,
  id: string,
): Promise<FoundAccount | undefined> {
  const { rows } = await database.query<Selectable<ReadAccountTable> & Quarantined>({
    name: 'find-account',
    text: `select a.*, q.code as quarantined from read.accounts a
      left join read.quarantine q on q.projection = $1 and q.account_id = a.id
      where a.id = $2`,
    values: [accounts.name, id],
  })
  const [row] = rows
  return row && { account: resourceOf(row), quarantined: row.quarantined }
}

function fromAccounts(database: Kysely<ReadDatabase>) {
  return database
    .selectFrom('read.accounts as a')
    .leftJoin('read.quarantine as q', (join) =>
      join.onRef('q.account_id', '=', 'a.id').on('q.projection', '=', accounts.name),
    )
    .selectAll('a')
    .select('q.code as quarantined')
}

type AccountFilters = {
  owner?: string | undefined
  status?: 'open' | 'closed' | undefined
  currency?: string | undefined
  /** Ledger balance in minor units, both ends included. */
  minBalance?: string | undefined
  maxBalance?: string | undefined
  /** From is included, to is not. */
  openedFrom?: Date | undefined
  openedTo?: Date | undefined
  tier?: Tier | undefined
}

/** Accounts by id, from behind `after`; at most `limit`, and whether there are more. */
async function listAccounts(
  database: Kysely<ReadDatabase>,
  filters: AccountFilters,
  { after, limit }: { after: string | undefined; limit: number },
): Promise<{ items: FoundAccount[]; more: boolean }> {
  const { owner, status, currency, minBalance, maxBalance, openedFrom, openedTo, tier } = filters
  let query = fromAccounts(database)
    .orderBy('a.id')
    .limit(limit + 1)
  if (after !== undefined) query = query.where('a.id', '>', after)
  if (owner !== undefined) query = query.where('a.owner', '=', owner)
  if (status !== undefined) query = query.where('a.status', '=', status)
  if (currency !== undefined) query = query.where('a.currency', '=', currency)
  if (minBalance !== undefined) query = query.where('a.ledger_balance', '>=', minBalance)
  if (maxBalance !== undefined) query = query.where('a.ledger_balance', '<=', maxBalance)
  if (openedFrom !== undefined) query = query.where('a.opened_at', '>=', openedFrom)
  if (openedTo !== undefined) query = query.where('a.opened_at', '<', openedTo)
  if (tier !== undefined) query = query.where('a.id', 'in', membersOf(database, tier, after ?? ''))
  const rows = await query.execute()
  const items = rows.slice(0, limit).map((row) => ({
    account: resourceOf(row),
    quarantined: row.quarantined,
  }))
  return { items, more: rows.length > limit }
}

const minorUnits = z
  .string()
  .regex(/^(0|-?[1-9]\d{0,17})$/, 'must be up to 18 digits, in minor units')

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
  tier: z.string().max(60).optional(),
  ...pageParams,
})

/** What the projection `accounts` answers. */
export function accountRoutes(settings: ReadSettings): Route[] {
  const freshness = settings.freshnessOf(accounts)
  const withTiers = settings.freshnessOf(leastOf([accounts, tiers]))
  const listed = ({ query }: ApiRequest) => (query.tier === undefined ? freshness : withTiers)
  return [
    readRoute(freshness, '/accounts/:id', (request) => oneAccount(settings, request)),
    {
      method: 'GET',
      path: '/accounts',
      handle: (request) =>
        orUnavailable(() => listed(request).read(request, accountList(settings, request))),
    },
  ]
}

function oneAccount({ reader }: ReadSettings, request: ApiRequest) {
  const { id } = parsePart(accountParams, request.params, 'path')
  parsePart(noQuery, request.query, 'query')
  return async (): Promise<ApiAnswer> => {
    const found = await findAccount(reader, id)
    if (found === undefined) throw await accountMissing(reader, accounts, id)
    const { account, quarantined } = found
    const headers = { ETag: `"${account.version}"`, ...quarantineHeader([{ id, quarantined }]) }
    return { status: 200, headers, body: account }
  }
}

function accountList({ reader, database, cursorSecret }: ReadSettings, request: ApiRequest) {
  const { limit, cursor, ...given } = parsePart(listQuery, request.query, 'query')
  const place: CursorPlace = { list: 'accounts', filters: given }
  const after = cursorPosition(cursorSecret, place, cursor)
  const filters = {
    ...given,
    openedFrom: given.openedFrom === undefined ? undefined : new Date(given.openedFrom),
    openedTo: given.openedTo === undefined ? undefined : new Date(given.openedTo),
  }
  return async (): Promise<ApiAnswer> => {
    const tier = given.tier === undefined ? undefined : await tierNamed(reader, given.tier)
    const page = { after, limit }
    const { items, more } = await listAccounts(database, { ...filters, tier }, page)
    const next = nextCursor(cursorSecret, place, { more, last: items.at(-1)?.account.id })
    const quarantined = items.map((item) => ({ ...item, id: item.account.id }))
    const body = { items: items.map(({ account }) => account), next }
    return { status: 200, headers: quarantineHeader(quarantined), body }
  }
}
