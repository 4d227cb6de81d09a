import type { Route } from 'service/route'
import { accountEventsRoutes } from './account-events.ts'
import { tombstoneRoutes } from './account-state/tombstones.ts'
import { partitionRoutes } from './partition-repair/routes.ts'
import { readModels } from './projections/table.ts'
import { type QuarantineRoutesSettings, quarantineRoutes } from './quarantine/routes.ts'
import { projectionRoutes, type ReportSettings } from './report.ts'
import { type ChangesSettings, changesRoutes } from './streams/account-changes.ts'
import { dashboardStreamRoutes } from './streams/dashboard-stream.ts'

type Settings = ChangesSettings &
  QuarantineRoutesSettings &
  ReportSettings & {
    /** Whether the read models themselves are answered here. */
    reads: boolean
  }

/** Everything that the query API answers. What changes something is audited: `quarantine/audit.pg.test.ts`. */
export function queryRoutes({ reads, ...settings }: Settings): Route[] {
  return [
    ...(reads ? readRoutes(settings) : []),
    ...projectionRoutes(settings),
    ...quarantineRoutes(settings),
    ...partitionRoutes(settings),
    ...tombstoneRoutes(settings),
  ]
}

function readRoutes(settings: ChangesSettings): Route[] {
  return [
    ...readModels.flatMap(({ routes }) => routes(settings)),
    ...accountEventsRoutes(settings),
    ...changesRoutes(settings),
    ...dashboardStreamRoutes(settings),
  ]
}
