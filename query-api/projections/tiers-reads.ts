import { type Kysely, sql } from 'kysely'
import type { ReadDatabase } from 'migrations/read'
import { httpProblem } from 'service/problem'
import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { noQuery, readRoute, type ReadSettings } from '../reading.ts'
import type { Queryable } from '../transaction.ts'
import { parseTierName, rangeOf, tierWith } from './tiers-edges.ts'
import { readCuts, tiers } from './tiers.ts'

type TierRow = {
  currency: string
  edges: string[]
  tier: number
  count: string
  total: string
  version: string
  as_of: Date | null
}

/**
 * Every tier of every currency, empty ones too, from the lowest on. `version` counts the events
 * that the figures are made of, and `asOf` is the time of the newest.
 */
export async function readTiers(database: Queryable) {
  // One statement, so that edges, counts and totals are of one moment.
  const { rows } = await database.query<TierRow>({
    name: 'tiers-read',
    text: `select e.currency, e.edges, tier, coalesce(t.accounts, 0) as count,
        coalesce(t.total, 0) as total, coalesce(sum(t.events) over (), 0) as version,
        max(t.as_of) over () as as_of
      from read.tiers_edges e
      cross join generate_series(0, cardinality(e.edges)) as tier
      left join (
        select currency, tier, sum(accounts) as accounts, sum(total) as total,
          sum(events) as events, max(as_of) as as_of
        from read.tiers_tallies group by currency, tier) t using (currency, tier)
      order by e.currency, tier`,
  })
  const items = rows.map(({ currency, edges, tier, count, total }) => {
    const { from, to } = rangeOf(edges.map(BigInt), tier)
    return {
      currency,
      from: from === null ? null : String(from),
      to: to === null ? null : String(to),
      count: Number(count),
      total,
    }
  })
  const version = Number(rows[0]?.version ?? 0)
  return { items, version, asOf: rows[0]?.as_of?.toISOString() ?? null }
}

/** As the projection numbers it. */
export type Tier = { currency: string; tier: number }

/** The tier of this range, as the edges are now; refuses any other. */
export async function tierNamed(reader: Queryable, name: string): Promise<Tier> {
  const named = parseTierName(name)
  const cut = named && (await readCuts(reader)).get(named.currency)
  const tier = cut && tierWith(cut.edges, named)
  if (tier !== undefined) return { currency: named!.currency, tier }
  const message = 'must be a tier of GET /tiers, as currency:from..to, such as EUR:0..10000'
  throw httpProblem('invalid_request', { errors: [{ pointer: 'query/tier', message }] })
}

/** Ids behind `after`: without it a tier would be read from its beginning for each page. */
export function membersOf(database: Kysely<ReadDatabase>, { currency, tier }: Tier, after: string) {
  return database
    .selectFrom('read.tiers_heads as m')
    .select('m.account_id as id')
    .where('m.currency', '=', currency)
    .where('m.tier', '=', tier)
    .where('m.account_id', '>', after)
}

/** Whether an account, by its id in `a`, is a member: looked up for each, and not all members read. */
export const isMember = ({ currency, tier }: Tier) =>
  sql<boolean>`(select (h.currency, h.tier) = (${currency}, ${tier}) from read.tiers_heads h
    where h.account_id = a.id)`

/** What the projection `tiers` answers; members of a tier are a filter of `GET /accounts`. */
export function tierRoutes(settings: ReadSettings): Route[] {
  const freshness = settings.freshnessOf(tiers)
  return [readRoute(freshness, '/tiers', (request) => allTiers(settings, request))]
}

function allTiers({ reader }: ReadSettings, request: ApiRequest) {
  parsePart(noQuery, request.query, 'query')
  return async (): Promise<ApiAnswer> => ({ status: 200, body: await readTiers(reader) })
}
