import type { Route } from 'service/route'
import type { Projection } from '../projection.ts'
import type { ReadSettings } from '../reading.ts'
import { accountRoutes } from './accounts-reads.ts'
import { accounts } from './accounts.ts'
import { statementRoutes } from './statements-reads.ts'
import { statements } from './statements.ts'
import { dashboardRoutes } from './dashboard-reads.ts'
import { dashboard } from './dashboard.ts'
import { tierRoutes } from './tiers-reads.ts'
import { tiers } from './tiers.ts'
import { totalRoutes } from './totals-reads.ts'
import { totals } from './totals.ts'
import { holdRoutes } from './holds-reads.ts'
import { holds } from './holds.ts'
import { notifications } from './notifications.ts'
import { riskRoutes } from './risk-reads.ts'
import { risk } from './risk.ts'
import { searchRoutes } from './search-reads.ts'
import { search } from './search.ts'
import { transferRoutes } from './transfers-reads.ts'
import { transfers } from './transfers.ts'

/** A read model: how it is kept up, and what it answers. */
export type ReadModel = { projection: Projection; routes: (settings: ReadSettings) => Route[] }

/** All of them. One more is one more line, its files beside this one, and its migration. */
export const readModels: readonly ReadModel[] = [
  { projection: accounts, routes: accountRoutes },
  { projection: statements, routes: statementRoutes },
  { projection: tiers, routes: tierRoutes },
  { projection: totals, routes: totalRoutes },
  { projection: dashboard, routes: dashboardRoutes },
  { projection: transfers, routes: transferRoutes },
  { projection: holds, routes: holdRoutes },
  { projection: search, routes: searchRoutes },
  { projection: risk, routes: riskRoutes },
  { projection: notifications, routes: () => [] },
]
