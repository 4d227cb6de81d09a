import { databaseOver, openPool } from 'migrations/database'
import type { ReadDatabase } from 'migrations/read'
import { openAccess, openToAll } from 'service/access'
import { serveHttp } from 'service/http'
import { openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { aborted, exitLoudly, stopSignal } from 'service/stop'
import { readConfig } from './config.ts'
import { openFreshnesses } from './freshness.ts'
import { openJobs, projectorConnections } from './jobs.ts'
import { projectionMetrics } from './projection-metrics.ts'
import { projectorQueryTimeoutMs, projectorSessionSettings } from './projector.ts'
import { projectionReadiness } from './readiness.ts'
import { feedOf } from './quarantine/feed.ts'
import { queryRoutes } from './query-routes.ts'
import { readerSessionSettings } from './reading.ts'
import { EventStreams } from './streams/event-stream.ts'

try {
  const config = readConfig()
  const log = openLog('query-api', config.LOG_LEVEL)
  const signal = stopSignal()
  const metrics = openMetrics('query-api')
  const access = config.AUTH === 'off' ? openToAll : openAccess(config.ACCESS_KEYS_FILE ?? '', log)
  const onError = (error: Error) =>
    log.warn({ event: 'connection_lost', err: error }, 'connection lost')
  await using reader = openPool({
    url: config.READ_DATABASE_URL,
    applicationName: 'sluice-query-api',
    maxConnections: 8,
    settings: readerSessionSettings,
    queryTimeoutMs: 6_000,
    // Here it only means that a connection without an answer is given up, and not used again.
    pipeline: true,
    stop: signal,
    onError,
  })
  const database = databaseOver<ReadDatabase>(reader)
  await using pool = openPool({
    url: config.PROJECTOR_DATABASE_URL,
    applicationName: 'sluice-projector',
    maxConnections: projectorConnections(config.PROJECTIONS.length),
    settings: projectorSessionSettings,
    queryTimeoutMs: projectorQueryTimeoutMs,
    pipeline: true,
    stop: signal,
    onError,
  })
  const commandApi = { url: config.COMMAND_API_URL, key: config.COMMAND_API_KEY }
  const { jobs, others, statuses, lookAtLog } = openJobs({
    running: config.PROJECTIONS,
    tierEdges: config.TIERS,
    pool,
    brokers: config.KAFKA_BROKERS,
    webhookUrl: config.NOTIFICATION_WEBHOOK_URL || undefined,
    commandApi,
    sweepSeconds: config.SWEEP_SECONDS,
    heartbeatSeconds: config.HEARTBEAT_SECONDS,
    signal,
    log,
  })
  const freshness = openFreshnesses(reader, { signal })
  const own = statuses.filter(({ elsewhere }) => !elsewhere)
  const observe = projectionMetrics(metrics.registry, own, freshness.waiters)
  await using http = await serveHttp({
    host: config.HOST,
    port: config.QUERY_API_PORT,
    routes: queryRoutes({
      reads: config.READS === 'on',
      reader,
      database,
      freshnessOf: freshness.of,
      cursorSecret: config.CURSOR_SECRET,
      streams: new EventStreams({ signal }),
      signal,
      // A page waits in memory for whoever reads its stream slowly.
      feed: feedOf(commandApi, { pageLimit: 100 }),
      statuses,
      lookAtLog,
      pool,
      repairers: jobs,
    }),
    access,
    readiness: projectionReadiness({
      database,
      statuses,
      heartbeatSeconds: config.HEARTBEAT_SECONDS,
      stages: { 'command-api': config.COMMAND_API_URL, 'outbox-relay': config.RELAY_URL },
    }),
    log,
    metrics,
  })
  log.info({ event: 'started', url: http.url }, `query API on ${http.url}`)
  const work = jobs.map(({ projection, run }) => run(observe(projection.name)))
  await Promise.all([aborted(signal), ...work, ...others.map((run) => run())])
  log.info({ event: 'stopping' }, 'stopping: running requests finish')
} catch (error) {
  exitLoudly(error)
}
