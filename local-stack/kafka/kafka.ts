import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { pause } from 'service/backoff'
import type { DataFolder } from '../data-folder.ts'
import { StackError } from '../errors.ts'
import { describeExit, runTool, startChild, type Child } from '../processes/child.ts'
import { requireFreePorts } from '../processes/ports.ts'
import { brokerAnswers } from './broker-answers.ts'

export type KafkaOptions = {
  dataFolder: DataFolder
  /** Where the jars are (`ensureJars`), and the program to run them (`findJava`). */
  jars: string
  java: string
  port: number
  controllerPort: number
  /** The port that clients are told to use; a proxy's, say. `port` when absent. */
  advertisedPort?: number
  /** Server properties beside or instead of ours. */
  properties?: Record<string, string | number>
  heapMb?: number
  /** Compiles quickly rather than well: a start takes half the CPU, and a full load more. */
  quickStart?: boolean
  readyDeadlineMs?: number
  signal?: AbortSignal
}

export type Kafka = Child & {
  /** As clients are told: `127.0.0.1:<advertised port>`. */
  brokers: string[]
  port: number
  /** The storage was formatted by this start. */
  created: boolean
}

const logging = pathToFileURL(fileURLToPath(new URL('./log4j2.properties', import.meta.url)))

/**
 * Starts one broker that is its own controller on the folder's data, which it formats where there
 * are none, and resolves when it answers requests. Throws `ports_taken`, and `kafka_start_failed` with
 * the end of its log.
 */
export async function startKafka(options: KafkaOptions): Promise<Kafka> {
  const { dataFolder, jars, java, port, signal } = options
  // Whoever answers on the port is taken for our broker: it must not be somebody else.
  await requireFreePorts([
    { port, host: '127.0.0.1', what: 'Kafka', variable: 'KAFKA_PORT' },
    {
      port: options.controllerPort,
      host: '127.0.0.1',
      what: "Kafka's controller",
      variable: 'KAFKA_CONTROLLER_PORT',
    },
  ])
  const storage = dataFolder.file('kafka', 'storage')
  const created = !existsSync(storage)
  mkdirSync(dataFolder.file('kafka'), { recursive: true })
  if (created) await format(options, storage)
  const configuration = dataFolder.file('kafka', 'server.properties')
  writeFileSync(configuration, serverProperties(options, storage))
  const heap = options.heapMb ?? 512
  const child = await startChild({
    name: 'kafka',
    tier: 'kafka',
    command: java,
    args: [
      ...(options.quickStart ? ['-XX:TieredStopAtLevel=1'] : []),
      `-Xmx${heap}m`,
      '-XX:+ExitOnOutOfMemoryError',
      '-Djava.awt.headless=true',
      `-Dlog4j2.configurationFile=${logging.href}`,
      '-cp',
      join(jars, '*'),
      'kafka.Kafka',
      configuration,
    ],
    cwd: dataFolder.file('kafka'),
    env: process.env,
    logFile: dataFolder.logFile('kafka'),
    ledger: dataFolder.ledger,
    stopSteps: [
      { signal: 'SIGTERM', waitMs: 20_000 },
      { signal: 'SIGKILL', waitMs: 5_000 },
    ],
  })
  try {
    await becomesReady(child, port, { deadlineMs: options.readyDeadlineMs ?? 60_000, signal })
  } catch (error) {
    await child.stop()
    throw error
  }
  return { ...child, brokers: [`127.0.0.1:${options.advertisedPort ?? port}`], port, created }
}

/** The broker's configuration file; for one node every internal topic has one replica. */
export function serverProperties(
  options: Pick<KafkaOptions, 'port' | 'controllerPort' | 'advertisedPort' | 'properties'>,
  storage: string,
): string {
  const { port, controllerPort, advertisedPort = port } = options
  const all: Record<string, string | number> = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${advertisedPort}`,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': storage,
    ...singleNodeProperties,
    ...options.properties,
  }
  return Object.entries(all)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('')
}

/** What a broker on its own needs besides its addresses. */
export const singleNodeProperties = {
  'offsets.topic.replication.factor': 1,
  'offsets.topic.num.partitions': 4,
  'transaction.state.log.replication.factor': 1,
  'transaction.state.log.min.isr': 1,
  'transaction.state.log.num.partitions': 4,
  'share.coordinator.state.topic.replication.factor': 1,
  'share.coordinator.state.topic.min.isr': 1,
  'share.coordinator.state.topic.num.partitions': 4,
  'group.initial.rebalance.delay.ms': 0,
  // By default 128 MB, taken whole at the start: a heap of 256 MB now and then had no room for it.
  'log.cleaner.dedupe.buffer.size': 16_777_216,
  // A broker that was killed may register again only once its session has run out; 9 s by default.
  'broker.session.timeout.ms': 3_000,
  'broker.heartbeat.interval.ms': 500,
  'auto.create.topics.enable': 'false',
}

/** A cluster id as Kafka writes it: 16 bytes in URL-safe base64, not beginning with a dash. */
export function newClusterId(random: (size: number) => Buffer = randomBytes): string {
  for (;;) {
    const id = random(16).toString('base64url')
    if (!id.startsWith('-')) return id
  }
}

/** Formats beside the storage's place and renames it there, so that half of one is never used. */
async function format(options: KafkaOptions, storage: string): Promise<void> {
  const { dataFolder, jars, java, signal } = options
  const unfinished = `${storage}.new`
  const configuration = `${storage}.properties`
  rmSync(unfinished, { recursive: true, force: true })
  writeFileSync(configuration, serverProperties(options, unfinished))
  const tool = ['kafka.tools.StorageTool', 'format', '-t', newClusterId(), '-c', configuration]
  const failure = await runTool(
    {
      name: 'kafka-format',
      command: java,
      args: [`-Dlog4j2.configurationFile=${logging.href}`, '-cp', join(jars, '*'), ...tool],
      cwd: dataFolder.file('kafka'),
      env: process.env,
      logFile: dataFolder.logFile('kafka'),
      ledger: dataFolder.ledger,
    },
    signal,
  )
  if (failure !== undefined) throw new StackError('kafka_start_failed', failure)
  rmSync(configuration)
  renameSync(unfinished, storage)
}

async function becomesReady(
  child: Child,
  port: number,
  { deadlineMs, signal }: { deadlineMs: number; signal: AbortSignal | undefined },
): Promise<void> {
  const deadline = performance.now() + deadlineMs
  let exit: string | undefined
  void child.exited.then((ended) => (exit = describeExit(ended)))
  while (!(await brokerAnswers(port))) {
    signal?.throwIfAborted()
    const reason =
      exit ?? (performance.now() > deadline ? `no answer in ${deadlineMs} ms` : undefined)
    if (reason !== undefined) {
      throw new StackError(
        'kafka_start_failed',
        `Kafka did not start (${reason}); the end of ${child.logFile}:\n${child.logTail()}`,
      )
    }
    await pause(50, signal)
  }
  signal?.throwIfAborted()
}
