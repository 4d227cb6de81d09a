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
import { type AccountRow, listAccounts } from './accounts-list.ts'
import { accounts } from './accounts.ts'
import { tierNamed } from './tiers-reads.ts'
import { tiers } from './tiers.ts'

// What is asked of the projection `accounts`. An account in quarantine is answered as it is stored,
// and every answer says which of its accounts are.

type AccountResource = ReturnType<typeof resourceOf>

type FoundAccount = Pick<AccountRow, 'quarantined'> & { account: AccountResource }

/** The account as callers see it: amounts are strings of minor units, times RFC 3339 in UTC. */
function resourceOf(row: AccountRow) {
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
  const { rows } = await database.query<AccountRow>({
    name: 'find-account',
    text: `select a.*, q.code as quarantined from read.accounts a
      left join read.quarantine q on q.projection = $1 and q.account_id = a.id
      where a.id = $2`,
    values: [accounts.name, id],
  })
  const [row] = rows
  return row && { account: resourceOf(row), quarantined: row.quarantined }
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
    const page = { after: after ?? '', limit }
    const { rows, through } = await listAccounts(database, { ...filters, tier }, page)
    const next = nextCursor(cursorSecret, place, { more: through !== undefined, last: through })
    return {
      status: 200,
      headers: quarantineHeader(rows),
      body: { items: rows.map(resourceOf), next },
    }
  }
}
