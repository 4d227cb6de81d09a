import { createRequire } from 'node:module'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { connectAnswers } from 'connect/connector'
import { pause } from 'service/backoff'
import type { DataFolder } from '../data-folder.ts'
import { StackError } from '../errors.ts'
import type { JarSet } from '../kafka/jars.ts'
import { describeExit, startChild, type Child } from '../processes/child.ts'
import { requireFreePorts } from '../processes/ports.ts'
import { connectMainClass } from '../processes/process-ledger.ts'

/** Kafka Connect with Debezium's connector for PostgreSQL, for `ensureJars`. */
export const connectJars: JarSet = {
  title: 'Kafka Connect',
  name: 'connect',
  pom: createRequire(import.meta.url).resolve('connect/pom.xml'),
  megabytes: 41,
}

export type ConnectOptions = {
  dataFolder: DataFolder
  /** Where the jars are (`ensureJars` with `connectJars`), and the program to run them. */
  jars: string
  java: string
  brokers: readonly string[]
  port: number
  /** Names its group and its three topics; a second one on the same Kafka needs another. */
  group?: string
  /** Worker properties beside or instead of ours. */
  properties?: Record<string, string | number>
  heapMb?: number
  /** As for Kafka. */
  quickStart?: boolean
  readyDeadlineMs?: number
  signal?: AbortSignal
}

export type ConnectWorker = Child & { url: string; port: number }

const logging = pathToFileURL(fileURLToPath(new URL('./log4j2.properties', import.meta.url)))

/**
 * Starts one Connect worker, which keeps all it knows in topics of that Kafka, and resolves when
 * its REST interface answers. Throws `ports_taken`, and `connect_start_failed` with the end of its log.
 */
export async function startConnect(options: ConnectOptions): Promise<ConnectWorker> {
  const { dataFolder, jars, java, port, signal } = options
  await requireFreePorts([
    { port, host: '127.0.0.1', what: 'Kafka Connect', variable: 'CONNECT_PORT' },
  ])
  mkdirSync(dataFolder.file('connect'), { recursive: true })
  const configuration = dataFolder.file('connect', 'worker.properties')
  writeFileSync(configuration, workerProperties(options))
  const child = await startChild({
    name: 'connect',
    tier: 'connect',
    command: java,
    args: [
      ...(options.quickStart ? ['-XX:TieredStopAtLevel=1'] : []),
      `-Xmx${options.heapMb ?? 768}m`,
      '-XX:+ExitOnOutOfMemoryError',
      '-Djava.awt.headless=true',
      `-Dlog4j2.configurationFile=${logging.href}`,
      '-cp',
      join(jars, '*'),
      connectMainClass,
      configuration,
    ],
    cwd: dataFolder.file('connect'),
    env: process.env,
    logFile: dataFolder.logFile('connect'),
    ledger: dataFolder.ledger,
    stopSteps: [
      { signal: 'SIGTERM', waitMs: 15_000 },
      { signal: 'SIGKILL', waitMs: 5_000 },
    ],
  })
  const url = `http://127.0.0.1:${port}`
  try {
    await becomesReady(child, url, { deadlineMs: options.readyDeadlineMs ?? 60_000, signal })
  } catch (error) {
    await child.stop()
    throw error
  }
  return { ...child, url, port }
}

/** The worker's configuration file; for one node every topic of its own has one replica. */
export function workerProperties(
  options: Pick<ConnectOptions, 'brokers' | 'port' | 'group' | 'properties'>,
): string {
  const { brokers, port, group = 'sluice-connect' } = options
  const all: Record<string, string | number> = {
    'bootstrap.servers': brokers.join(','),
    'group.id': group,
    'config.storage.topic': `${group}-configs`,
    'offset.storage.topic': `${group}-offsets`,
    'status.storage.topic': `${group}-statuses`,
    'config.storage.replication.factor': 1,
    'offset.storage.replication.factor': 1,
    'status.storage.replication.factor': 1,
    'offset.storage.partitions': 1,
    'status.storage.partitions': 1,
    // Loopback only: whoever can reach it may do everything, and may read every password.
    listeners: `http://127.0.0.1:${port}`,
    'rest.advertised.host.name': '127.0.0.1',
    'rest.advertised.port': port,
    // What a worker's connectors use unless they say otherwise; ours says.
    'key.converter': 'org.apache.kafka.connect.storage.StringConverter',
    'value.converter': 'org.apache.kafka.connect.storage.StringConverter',
    ...workerSettings,
    ...options.properties,
  }
  return Object.entries(all)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('')
}

const workerSettings = {
  // All jars are on one class path; no need to look for plugins elsewhere, by other means.
  'plugin.discovery': 'only_scan',
  'connector.client.config.override.policy': 'All',
  // A connector never makes a topic: topics are part of the schema.
  'topic.creation.enable': 'false',
  // A slot moves only when offsets are stored; by default that is once a minute.
  'offset.flush.interval.ms': 1_000,
  // By default connectors of a worker that died wait 5 minutes for it to come back, even though
  // it is back, under another name, and is the only one.
  'scheduled.rebalance.max.delay.ms': 0,
  // And the dead one stays in the group as long as this; the broker allows no less.
  'session.timeout.ms': 6_000,
  'heartbeat.interval.ms': 2_000,
}

async function becomesReady(
  child: Child,
  url: string,
  { deadlineMs, signal }: { deadlineMs: number; signal: AbortSignal | undefined },
): Promise<void> {
  const deadline = performance.now() + deadlineMs
  let exit: string | undefined
  void child.exited.then((ended) => (exit = describeExit(ended)))
  while (!(await connectAnswers({ url, signal }))) {
    const reason =
      exit ?? (performance.now() > deadline ? `no answer in ${deadlineMs} ms` : undefined)
    if (reason !== undefined) {
      throw new StackError(
        'connect_start_failed',
        `Kafka Connect did not start (${reason}); the end of ${child.logFile}:\n${child.logTail()}`,
      )
    }
    await pause(50, signal)
    signal?.throwIfAborted()
  }
}
