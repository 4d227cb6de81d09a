import type { Pool } from 'migrations/database'
import type { Route } from 'service/route'
import type { Config } from './config.ts'
import { parkingRoutes } from './parking-routes.ts'
import type { RelayState } from './relay-state.ts'
import type { PartitionWatch } from './retention/partition-status.ts'
import { relayRoute } from './status.ts'
import { switchRoutes } from './switching.ts'

export type RelayRoutesSettings = {
  config: Pick<Config, 'CDC_DATABASE_URL' | 'CONNECT_URL'>
  pool: Pool
  state: RelayState
  partitions: PartitionWatch
}

/**
 * Everything that a relay answers beside its health. `operator-audit.pg.test.ts` holds that what changes
 * something is audited.
 */
export function relayRoutes({ config, pool, state, partitions }: RelayRoutesSettings): Route[] {
  return [
    relayRoute(pool, state, partitions),
    ...switchRoutes(pool, config),
    ...parkingRoutes(pool),
  ]
}
