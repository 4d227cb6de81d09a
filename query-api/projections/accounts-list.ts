import { type Kysely, type Selectable, sql } from 'kysely'
import type { ReadAccountTable, ReadDatabase } from 'migrations/read'
import { accounts } from './accounts.ts'
import { isMember, membersOf, type Tier } from './tiers-reads.ts'

// Accounts under any filters that may come together, by id. An id never changes, so that a cursor
// passes each account once, whatever is written meanwhile. No index fits every combination: an answer
// looks at so many accounts and no more, and a page that found less than its limit among them goes on
// behind the last one that was looked at. Invariants:
// 1. What is looked at is `lookedAt` accounts at most, whatever the filters and the statistics are.
// 2. Up to `through`, every account that the filters keep is in this page or one before it.

const lookedAt = 5_000

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
  tier?: Tier | undefined
}

/** `quarantined` is the code of why it is not kept up at present; null when it is. */
export type AccountRow = Selectable<ReadAccountTable> & { quarantined: string | null }

type Database = Kysely<ReadDatabase>
type Page = { after: string; limit: number }

/** From behind `after`; `through` is where the list goes on, and undefined at its end. */
export async function listAccounts(
  database: Database,
  filters: AccountFilters,
  { after, limit }: Page,
): Promise<{ rows: AccountRow[]; through: string | undefined }> {
  const { source, through, ofTier } = await sourceOf(database, filters, { after, limit })
  const { owner, status, currency, tier } = filters
  let query = database
    .selectFrom(source.as('a'))
    .leftJoin('read.quarantine as q', (join) =>
      join.onRef('q.account_id', '=', 'a.id').on('q.projection', '=', accounts.name),
    )
    .selectAll('a')
    .select('q.code as quarantined')
    .where('a.id', '>', after)
    .orderBy('a.id')
    .limit(limit + 1)
  if (owner !== undefined) query = query.where('a.owner', '=', owner)
  if (status !== undefined) query = query.where('a.status', '=', status)
  if (currency !== undefined) query = query.where('a.currency', '=', currency)
  if (tier !== undefined && ofTier !== true) query = query.where(isMember(tier))
  for (const range of [balancesIn(filters), openingsIn(filters)]) {
    if (range !== undefined) query = query.where(range)
  }
  const rows = await query.execute()
  if (rows.length <= limit) return { rows, through }
  return { rows: rows.slice(0, limit), through: rows[limit - 1]?.id }
}

type Source = ReturnType<typeof allOf>

const allOf = (database: Database) => database.selectFrom('read.accounts as a').selectAll('a')

/**
 * What an answer looks at: an index's next accounts; those opened in a time, if few; or an index's next
 * ones as far as `through`. The offset of nothing keeps the planner from looking elsewhere.
 */
async function sourceOf(
  database: Database,
  filters: AccountFilters,
  { after, limit }: Page,
): Promise<{ source: Source; through?: string | undefined; ofTier?: boolean }> {
  const { walk, upTo, lastLookedAt, fits, ofTier } = walkOf(database, filters, after)
  if (fits) return { source: walk.limit(limit + 1), ofTier }
  const few = await fewOf(database, filters)
  if (few !== undefined) return { source: few.offset(0) }
  const last = await lastLookedAt().executeTakeFirst()
  return { source: upTo(last?.id).offset(0), through: last?.id, ofTier }
}

/** Accounts behind `after`, as an index has them by id; it `fits` when no other filter is left. */
function walkOf(database: Database, filters: AccountFilters, after: string) {
  const { owner, status, currency, tier, ...ranges } = filters
  const isLeft = (...others: readonly unknown[]) =>
    others.concat(Object.values(ranges)).some((filter) => filter !== undefined)
  if (owner === undefined && tier !== undefined) {
    return { ...membersWalk(database, tier, after), fits: !isLeft(status, currency), ofTier: true }
  }
  let walk = allOf(database).where('a.id', '>', after).orderBy('a.id')
  let fits = !isLeft()
  if (owner !== undefined) {
    walk = walk.where('a.owner', '=', owner)
    fits = !isLeft(status, currency, tier)
  } else {
    if (status !== undefined) walk = walk.where('a.status', '=', status)
    if (currency !== undefined) walk = walk.where('a.currency', '=', currency)
  }
  const lastLookedAt = () => {
    const ids = walk.clearSelect().select('a.id')
    return ids.offset(lookedAt - 1).limit(1)
  }
  const upTo = (through: string | undefined) =>
    through === undefined ? walk : walk.where('a.id', '<=', through)
  return { walk, upTo, lastLookedAt, fits, ofTier: false }
}

/** The members are asked for first: an account is read for each of them, and none in between. */
function membersWalk(database: Database, tier: Tier, after: string) {
  const members = membersOf(database, tier, after)
  const all = allOf(database).where('a.id', '>', after).orderBy('a.id')
  return {
    walk: all.where('a.id', 'in', members),
    upTo: (through: string | undefined) => {
      const near = through === undefined ? members : members.where('m.account_id', '<=', through)
      return all.where(sql<boolean>`a.id = any(array(${near}))`)
    },
    lastLookedAt: () => {
      const ids = members.orderBy('m.account_id')
      return ids.offset(lookedAt - 1).limit(1)
    },
  }
}

/**
 * The accounts that were opened in a time that is asked for, where they are no more than may be looked
 * at. Of balances there is no such index: it would be written with every event.
 */
async function fewOf(database: Database, filters: AccountFilters): Promise<Source | undefined> {
  const openings = openingsIn(filters)
  if (openings === undefined) return undefined
  const within = allOf(database).where(openings)
  const looked = within.clearSelect().select('a.opened_at').orderBy('a.opened_at')
  const { count } = await database
    .selectFrom(looked.limit(lookedAt + 1).as('l'))
    .select(({ fn }) => fn.countAll<string>().as('count'))
    .executeTakeFirstOrThrow()
  return Number(count) <= lookedAt ? within : undefined
}

function balancesIn({ minBalance, maxBalance }: AccountFilters) {
  if (minBalance === undefined && maxBalance === undefined) return undefined
  const [from, to] = [minBalance ?? -(2n ** 63n), maxBalance ?? 2n ** 63n - 1n]
  return sql<boolean>`a.ledger_balance between ${from} and ${to}`
}

function openingsIn({ openedFrom, openedTo }: AccountFilters) {
  if (openedFrom === undefined && openedTo === undefined) return undefined
  const [from, to] = [openedFrom ?? '-infinity', openedTo ?? 'infinity']
  return sql<boolean>`a.opened_at >= ${from} and a.opened_at < ${to}`
}
