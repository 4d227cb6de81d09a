import type { Kysely, Selectable } from 'kysely'
import type { ReadAccountTable, ReadDatabase } from 'migrations/read'
import { accounts } from './accounts.ts'
import type { Queryable } from './transaction.ts'

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

/** A named statement, as is `accountVersions`: planning it would cost more than answering it. */
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

/** Why an account is in quarantine, whether it is in the read model or not; null when it is not. */
export async function quarantineOf(
  database: Kysely<ReadDatabase>,
  id: string,
): Promise<string | null> {
  const row = await database
    .selectFrom('read.quarantine')
    .select('code')
    .where('projection', '=', accounts.name)
    .where('account_id', '=', id)
    .executeTakeFirst()
  return row?.code ?? null
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

export type AccountFilters = {
  owner?: string | undefined
  status?: 'open' | 'closed' | undefined
  currency?: string | undefined
  /** Ledger balance in minor units, both ends included. */
  minBalance?: string | undefined
  maxBalance?: string | undefined
  /** From is included, to is not. */
  openedFrom?: Date | undefined
  openedTo?: Date | undefined
}

/** Accounts by id, from behind `after`; at most `limit`, and whether there are more. */
export async function listAccounts(
  database: Kysely<ReadDatabase>,
  filters: AccountFilters,
  { after, limit }: { after: string | undefined; limit: number },
): Promise<{ items: FoundAccount[]; more: boolean }> {
  const { owner, status, currency, minBalance, maxBalance, openedFrom, openedTo } = filters
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
  const rows = await query.execute()
  const items = rows.slice(0, limit).map((row) => ({
    account: resourceOf(row),
    quarantined: row.quarantined,
  }))
  return { items, more: rows.length > limit }
}

/**
 * How far this projection is with these accounts; an unknown one is left out. An account whose
 * history here is another than the command side's counts as 0: no version of it can be trusted.
 */
export async function accountVersions(
  database: Queryable,
  ids: readonly string[],
): Promise<Map<string, number>> {
  const { rows } = await database.query<{ id: string; version: string }>({
    name: 'account-versions',
    text: `select a.id, case q.code when 'version_conflict' then 0 else a.version end as version
      from read.accounts a
      left join read.quarantine q on q.projection = $1 and q.account_id = a.id
      where a.id = any($2)`,
    values: [accounts.name, ids],
  })
  return new Map(rows.map(({ id, version }) => [id, Number(version)]))
}
