import type { Route } from 'service/route'
import { type QuarantineRoutesSettings, quarantineRoutes } from './quarantine/routes.ts'
import { projectionRoutes } from './report.ts'
import { type AccountRoutesSettings, accountRoutes } from './routes.ts'
import type { ProjectionStatus } from './status.ts'

type Settings = AccountRoutesSettings &
  QuarantineRoutesSettings & { statuses: readonly ProjectionStatus[] }

/** Everything that the query API answers. What changes something is audited: `quarantine/audit.pg.test.ts`. */
export function queryRoutes({ statuses, ...settings }: Settings): Route[] {
  return [
    ...accountRoutes(settings),
    ...projectionRoutes(settings.database, statuses),
    ...quarantineRoutes(settings),
  ]
}
