import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { leastOf } from '../freshness.ts'
import { noQuery, readRoute, type ReadSettings } from '../reading.ts'
import type { Queryable } from '../transaction.ts'
import { dashboard, spans } from './dashboard.ts'
import { readTiers } from './tiers-reads.ts'
import { tiers } from './tiers.ts'
import { readTotals } from './totals-reads.ts'
import { totals } from './totals.ts'

// The dashboard is three projections side by side, each as far as it is. A read with a token waits
// for all of them, and `version` and `asOf` are those of the one that is least far.

/** What a token is compared with. */
export const dashboardVersions = leastOf([dashboard, tiers, totals])

export type Dashboard = Awaited<ReturnType<typeof readDashboard>>

export async function readDashboard(database: Queryable, nowMs: () => number = Date.now) {
  const [money, sorted, moved] = await Promise.all([
    readTotals(database),
    readTiers(database),
    readMovements(database, nowMs),
  ])
  const parts = [money, sorted, moved]
  return {
    accounts: accountsByStatus(money.items),
    money: moneyByCurrency(money.items),
    movements: moved.movements,
    tiers: sorted.items,
    version: Math.min(...parts.map(({ version }) => version)),
    asOf: oldest(parts.map(({ asOf }) => asOf)),
  }
}

/** Null while one of them has seen nothing. */
function oldest(times: readonly (string | null)[]): string | null {
  return times.reduce((one, other) => {
    if (one === null || other === null) return null
    return one < other ? one : other
  })
}

type Totals = Awaited<ReturnType<typeof readTotals>>['items']

function accountsByStatus(items: Totals): { open: number; closed: number } {
  const accounts = { open: 0, closed: 0 }
  for (const { status, count } of items) accounts[status] += count
  return accounts
}

function moneyByCurrency(items: Totals) {
  return [...Map.groupBy(items, ({ currency }) => currency)].map(([currency, own]) => {
    const sum = (amounts: string[]) => String(amounts.reduce((all, each) => all + BigInt(each), 0n))
    return {
      currency,
      ledgerBalance: sum(own.map(({ ledgerBalance }) => ledgerBalance)),
      held: sum(own.map(({ held }) => held)),
      available: sum(own.map(({ available }) => available)),
    }
  })
}

type BucketRow = {
  seconds: number
  start: string
  movements: string
  events: string
  as_of: Date | null
}

async function readMovements(database: Queryable, nowMs: () => number) {
  const { rows } = await database.query<BucketRow>({
    name: 'dashboard-movements',
    text: `select seconds, extract(epoch from starts_at)::bigint as start,
        sum(movements) as movements, sum(events) as events, max(as_of) as as_of
      from read.dashboard_tallies group by seconds, starts_at`,
  })
  const nowSeconds = nowMs() / 1_000
  const [seconds, minutes] = spans.map((span) => seriesOf(rows, span, nowSeconds)) as [
    Series,
    Series,
  ]
  const all = rows.find((row) => row.seconds === 0)
  return {
    movements: {
      lastSecond: seconds.counts.at(-1)!,
      lastMinute: seconds.counts.reduce((sum, count) => sum + count, 0),
      seconds,
      minutes,
    },
    version: Number(all?.events ?? 0),
    asOf: all?.as_of?.toISOString() ?? null,
  }
}

/** Complete seconds or minutes one after another, the first of which starts at `from`. */
type Series = { from: string; counts: number[] }

function seriesOf(
  rows: readonly BucketRow[],
  span: { seconds: number; shown: number },
  nowSeconds: number,
): Series {
  const own = rows.filter(({ seconds }) => seconds === span.seconds)
  const counts = new Map(own.map(({ start, movements }) => [Number(start), Number(movements)]))
  const end = Math.floor(nowSeconds / span.seconds) * span.seconds
  const first = end - span.shown * span.seconds
  const starts = Array.from({ length: span.shown }, (_, index) => first + index * span.seconds)
  return {
    from: new Date(first * 1_000).toISOString(),
    counts: starts.map((start) => counts.get(start) ?? 0),
  }
}

/** What the dashboard answers once; its stream is another route. */
export function dashboardRoutes(settings: ReadSettings): Route[] {
  const freshness = settings.freshnessOf(dashboardVersions)
  return [readRoute(freshness, '/dashboard', (request) => once(settings, request))]
}

function once({ reader }: ReadSettings, request: ApiRequest) {
  parsePart(noQuery, request.query, 'query')
  return async (): Promise<ApiAnswer> => ({ status: 200, body: await readDashboard(reader) })
}
