import type { TestDatabases } from 'local-stack/test-databases'
import { openPool, type Pool } from 'migrations/database'
import { projectorSessionSettings } from './projector.ts'
import { readerSessionSettings } from './reading.ts'

// The two pools of a query-api process, over a test's own database.

const connection = { applicationName: 'test', onError: () => {} }

export function openProjectorPool(
  databases: Pick<TestDatabases, 'read'>,
  { maxConnections = 4 } = {},
): Pool {
  return openPool({
    ...connection,
    url: databases.read('sluice_projector'),
    maxConnections,
    settings: projectorSessionSettings,
    pipeline: true,
  })
}

export function openReaderPool(
  databases: Pick<TestDatabases, 'read'>,
  { maxConnections = 4 } = {},
): Pool {
  return openPool({
    ...connection,
    url: databases.read('sluice_query'),
    maxConnections,
    settings: readerSessionSettings,
  })
}
