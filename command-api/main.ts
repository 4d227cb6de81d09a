import { openPool } from 'migrations/database'
import { Gauge } from 'prom-client'
import { openAccess, openToAll } from 'service/access'
import { serveHttp } from 'service/http'
import { openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { aborted, exitLoudly, stopSignal } from 'service/stop'
import { readConfig } from './config.ts'
import { Executor } from './executor.ts'
import { feedRoutes } from './feed.ts'
import { birth } from './form.ts'
import { runHeartbeat } from './heartbeat.ts'
import { commandRoutes } from './routes.ts'
import { startUpkeep } from './upkeep.ts'
import { readiness, writeQueryTimeoutMs, writeSessionSettings } from './write-database.ts'

try {
  const config = readConfig()
  const log = openLog('command-api', config.LOG_LEVEL)
  const signal = stopSignal()
  const metrics = openMetrics('command-api')
  const access = config.AUTH === 'off' ? openToAll : openAccess(config.ACCESS_KEYS_FILE ?? '', log)
  await using pool = openPool({
    url: config.WRITE_DATABASE_URL,
    applicationName: 'sluice-command-api',
    // Beside the lanes: the heartbeat, readiness, the feed, operations and the timers.
    maxConnections: config.COMMAND_LANES + 10,
    settings: writeSessionSettings,
    queryTimeoutMs: writeQueryTimeoutMs,
    stop: signal,
    pipeline: true,
    onError: (error) => log.warn({ event: 'connection_lost', err: error }, 'connection lost'),
  })
  const executor = new Executor({
    pool,
    log,
    newId: birth.newId,
    lanes: config.COMMAND_LANES,
    batchLimit: config.COMMAND_BATCH_LIMIT,
  })
  const { routes, operations } = commandRoutes({
    executor,
    pool,
    birth,
    log,
    forceDebitLimit: BigInt(config.FORCE_DEBIT_LIMIT),
  })
  const waiting: Gauge = new Gauge({
    name: 'sluice_commands_waiting',
    help: 'Commands that wait for a lane',
    registers: [metrics.registry],
    collect: () => {
      waiting.set(executor.waiting)
    },
  })
  await using http = await serveHttp({
    host: config.HOST,
    port: config.COMMAND_API_PORT,
    routes: [...routes, ...feedRoutes(pool)],
    access,
    readiness: () => readiness(pool, executor),
    log,
    metrics,
  })
  await using upkeep = new AsyncDisposableStack()
  const timers = startUpkeep({
    ...operations,
    expirySeconds: config.HOLD_EXPIRY_SECONDS,
    idempotencyDays: config.IDEMPOTENCY_DAYS,
  })
  for (const timer of timers) upkeep.use(timer)
  log.info({ event: 'started', url: http.url }, `command API on ${http.url}`)
  void runHeartbeat({ pool, everySeconds: config.HEARTBEAT_SECONDS, ...birth, signal, log })
  await aborted(signal)
  log.info({ event: 'stopping' }, 'stopping: running requests finish')
} catch (error) {
  exitLoudly(error)
}
