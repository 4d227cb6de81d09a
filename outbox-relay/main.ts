import { openPool, type Pool } from 'migrations/database'
import { openAccess, openToAll } from 'service/access'
import { serveHttp } from 'service/http'
import { type Log, openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { exitLoudly, stopSignal } from 'service/stop'
import { readConfig, retentionOf } from './config.ts'
import { cursorSession } from './cursor.ts'
import { runRelay } from './relay.ts'
import { openRelayMetrics, registerParkedGauges } from './relay-metrics.ts'
import { newRelayState } from './relay-state.ts'
import { readTableStatus } from './relay-table.ts'
import { newMaintenanceState, openMaintenance } from './retention/maintenance.ts'
import { registerPartitionMetrics, watchPartitions } from './retention/partition-status.ts'
import { relayRoutes } from './routes.ts'
import { backlogBound, readiness } from './status.ts'

let log: Log | undefined
try {
  const config = readConfig()
  const relayLog = openLog('outbox-relay', config.LOG_LEVEL)
  log = relayLog
  const stop = stopSignal()
  const settings = { statement_timeout: '5s', jit: 'off' }
  const connection = {
    url: config.WRITE_DATABASE_URL,
    stop,
    onError: (error: Error) =>
      relayLog.warn({ event: 'connection_lost', err: error }, 'connection lost'),
  }
  await using pool: Pool = openPool({
    ...connection,
    applicationName: 'sluice-relay',
    maxConnections: 4,
    settings,
  })
  // Of its own: whoever asks this process a lot is not to keep the lease from being renewed.
  await using answers: Pool = openPool({
    ...connection,
    applicationName: 'sluice-relay-http',
    maxConnections: 2,
    settings,
  })
  await using readers: Pool = openPool({
    ...connection,
    applicationName: 'sluice-relay-cursor',
    maxConnections: 1,
    settings: cursorSession,
  })
  const state = newRelayState()
  const service = openMetrics('outbox-relay')
  const metrics = openRelayMetrics(service.registry, state, () =>
    readTableStatus(answers, backlogBound),
  )
  registerParkedGauges(service.registry, answers)
  const maintained = newMaintenanceState()
  const partitions = watchPartitions(answers, retentionOf(config), maintained)
  registerPartitionMetrics(service.registry, partitions, maintained)
  const access = config.AUTH === 'off' ? openToAll : openAccess(config.ACCESS_KEYS_FILE ?? '', log)
  await using http = await serveHttp({
    host: config.HOST,
    port: config.RELAY_PORT,
    routes: relayRoutes({ config, pool: answers, state, partitions }),
    access,
    readiness: () => readiness(answers, partitions),
    log,
    metrics: service,
  })
  log.info({ event: 'started', url: http.url }, `relay on ${http.url}`)
  await using beside = new AsyncDisposableStack()
  beside.use(openMaintenance(config, { state: maintained, log }))
  await runRelay({ config, pool, readers, state, metrics, log, stop })
  log.info({ event: 'stopped' }, 'stopped')
} catch (error) {
  exitLoudly(error, log)
}
