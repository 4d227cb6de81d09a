import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { noQuery, readRoute, type ReadSettings } from '../reading.ts'
import type { Queryable } from '../transaction.ts'
import { totals } from './totals.ts'

type TotalRow = {
  currency: string
  status: 'open' | 'closed'
  count: string
  ledger_balance: string
  held: string
  available: string
  version: string
  as_of: Date | null
}

/** Of each currency and status that has accounts; `version` and `asOf` as those of the tiers. */
export async function readTotals(database: Queryable) {
  const { rows } = await database.query<TotalRow>({
    name: 'totals-read',
    text: `select currency, status, sum(accounts) as count, sum(ledger_balance) as ledger_balance,
        sum(held) as held, sum(available) as available, sum(sum(events)) over () as version,
        max(max(as_of)) over () as as_of
      from read.totals_tallies group by currency, status order by currency, status desc`,
  })
  const items = rows
    .filter(({ count }) => count !== '0')
    .map(({ currency, status, count, ledger_balance: ledgerBalance, held, available }) => ({
      currency,
      status,
      count: Number(count),
      ledgerBalance,
      held,
      available,
    }))
  const version = Number(rows[0]?.version ?? 0)
  return { items, version, asOf: rows[0]?.as_of?.toISOString() ?? null }
}

/** What the projection `totals` answers. */
export function totalRoutes(settings: ReadSettings): Route[] {
  const freshness = settings.freshnessOf(totals)
  return [readRoute(freshness, '/totals', (request) => allTotals(settings, request))]
}

function allTotals({ reader }: ReadSettings, request: ApiRequest) {
  parsePart(noQuery, request.query, 'query')
  return async (): Promise<ApiAnswer> => ({ status: 200, body: await readTotals(reader) })
}
