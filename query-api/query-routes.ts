import type { Route } from 'service/route'
import { tombstoneRoutes } from './account-state/tombstones.ts'
import { partitionRoutes } from './partition-repair/routes.ts'
import { readModels } from './projections/table.ts'
import { type QuarantineRoutesSettings, quarantineRoutes } from './quarantine/routes.ts'
import type { ReadSettings } from './reading.ts'
import { projectionRoutes, type ReportSettings } from './report.ts'

type Settings = ReadSettings &
  QuarantineRoutesSettings &
  ReportSettings & {
    /** Whether the read models themselves are answered here. */
    reads: boolean
  }

/** Everything that the query API answers. What changes something is audited: `quarantine/audit.pg.test.ts`. */
export function queryRoutes({ reads, ...settings }: Settings): Route[] {
  return [
    ...(reads ? readModels.flatMap(({ routes }) => routes(settings)) : []),
    ...projectionRoutes(settings),
    ...quarantineRoutes(settings),
    ...partitionRoutes(settings),
    ...tombstoneRoutes(settings),
  ]
}
