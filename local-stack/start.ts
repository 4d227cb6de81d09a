// The order of a start, one step each. What a step starts is pushed on one stack of things to
// dispose, so that a failure, a Ctrl-C and the end all stop the same things in the opposite order:
// services, Kafka Connect, Kafka, PostgreSQL, and last the folder's lock.
import type { StackConfig } from './config.ts'
import { openDataFolder, type DataFolder } from './data-folder.ts'
import { boundLogFile } from './processes/log-file.ts'
import { requireFreePorts, type PortUse } from './processes/ports.ts'
import { describeTrace, followSample } from './sample.ts'
import { ensureAccessKeys, openSecrets, type Secrets } from './secrets.ts'
import { useConnect } from './connect/connect-step.ts'
import { runMigrations, useDatabases, useKafka } from './server-steps.ts'
import { wireServices } from './service-environments.ts'
import { startServices } from './service-steps.ts'
import { serviceNames } from './services.ts'
import type { Step, Steps } from './steps.ts'
import { welcome } from './welcome.ts'

export type StartOptions = {
  config: StackConfig
  environment: NodeJS.ProcessEnv
  steps: Steps
  /** Aborted: the start gives up, what runs is left to whoever holds the result. */
  signal: AbortSignal
  /** Told the folder as soon as there is one, for whoever may have to kill what it started. */
  onFolder: (folder: DataFolder) => void
}

/** What the steps after the first few share. */
export type Start = StartOptions & {
  cleanup: AsyncDisposableStack
  folder: DataFolder
  secrets: Secrets
}

const maxLogBytes = 32 * 1024 * 1024
const boundLogsEveryMs = 10_000

/**
 * Starts everything, and resolves when one account has been followed from end to end. Disposing of
 * the result stops everything in order. Throws StackError with what to do; then nothing runs.
 */
export async function startStack(options: StartOptions): Promise<AsyncDisposableStack> {
  await using cleanup = new AsyncDisposableStack()
  const { config, steps } = options
  const startedAt = performance.now()
  const folder = await run(options, 'data folder', (step) => lockFolder(step, options, cleanup))
  boundLogs(folder, cleanup)
  await run(options, 'ports', (step) => checkPorts(step, config))
  const secrets = openSecrets(folder)
  const start: Start = { ...options, cleanup, folder, secrets }
  const databases = await run(options, 'PostgreSQL', (step) => useDatabases(step, start))
  const brokers = await run(options, 'Kafka', (step) => useKafka(step, start))
  await run(options, 'migrations', (step) => runMigrations(step, { databases, brokers, secrets }))
  const connectUrl = await connectUrlOf(start, brokers)
  const wiring = await run(options, 'access', async (step) => {
    const accessKeysFile = ensureAccessKeys(folder, secrets.developmentKey, secrets.queryApiKey)
    step.detail =
      config.auth === 'off' ? 'off: everybody may do everything' : secrets.developmentKey
    return wireServices({ ...config, databases, brokers, connectUrl, secrets, accessKeysFile })
  })
  await startServices(start, wiring)
  const addresses = {
    commandApiUrl: wiring['command-api'].url,
    queryApiUrl: wiring['query-api'].url,
    relayUrl: wiring['outbox-relay'].url,
    accessKey: config.auth === 'off' ? undefined : secrets.developmentKey,
  }
  await run(options, 'proof', async (step) => {
    const { signal } = options
    const sample = { ...addresses, writeUrl: databases.write, brokers, signal }
    step.detail = describeTrace(await followSample(sample))
  })
  steps.heading(`\nUp in ${((performance.now() - startedAt) / 1_000).toFixed(1)} s.`)
  const dataAfterwards = whatBecomesOfData(config, folder)
  steps.say(welcome({ ...addresses, logFolder: folder.file('logs'), dataAfterwards }))
  return cleanup.move()
}

function run<T>(
  { steps, signal }: Pick<StartOptions, 'steps' | 'signal'>,
  title: string,
  work: (step: Step) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted()
  return steps.run(title, work)
}

async function lockFolder(
  step: Step,
  { config, onFolder }: StartOptions,
  cleanup: AsyncDisposableStack,
): Promise<DataFolder> {
  const folder = cleanup.use(await openDataFolder(config.dataDir))
  onFolder(folder)
  const orphans =
    folder.orphans.length === 0 ? '' : `; stopped leftovers: ${folder.orphans.join(', ')}`
  step.detail = `${folder.path}${folder.ephemeral ? ' (removed at the end)' : ''}${orphans}`
  return folder
}

async function checkPorts(step: Step, config: StackConfig): Promise<void> {
  const { host, ports, given } = config
  const use = (port: number, what: string, variable: string, at = '127.0.0.1'): PortUse => ({
    port,
    what,
    variable,
    host: at,
  })
  const uses = [
    use(ports.commandApi, 'command-api', 'COMMAND_API_PORT', host),
    use(ports.queryApi, 'query-api', 'QUERY_API_PORT', host),
    use(ports.relay, 'outbox-relay', 'RELAY_PORT', host),
    ...(given.databases ? [] : [use(ports.postgres, 'PostgreSQL', 'POSTGRES_PORT')]),
    ...(given.brokers ? [] : [use(ports.kafka, 'Kafka', 'KAFKA_PORT')]),
    ...(startsConnect(config) ? [use(ports.connect, 'Kafka Connect', 'CONNECT_PORT')] : []),
    ...(given.brokers
      ? []
      : [use(ports.kafkaController, "Kafka's controller", 'KAFKA_CONTROLLER_PORT')]),
  ]
  await requireFreePorts(uses)
  step.detail = `${uses.map(({ port }) => port).join(' ')} are free`
}

/** A step of its own only where there is a Kafka Connect; undefined where there is none. */
async function connectUrlOf(start: Start, brokers: string[]): Promise<string | undefined> {
  const { config } = start
  if (config.given.connectUrl === undefined && !config.needsConnect) return undefined
  return run(start, 'Kafka Connect', (step) => useConnect(step, start, brokers))
}

const startsConnect = ({ needsConnect, given }: StackConfig) =>
  needsConnect && given.connectUrl === undefined

function boundLogs(folder: DataFolder, cleanup: AsyncDisposableStack): void {
  const logs = ['postgres', 'kafka', 'connect', ...serviceNames].map(folder.logFile)
  const bound = () => logs.forEach((path) => boundLogFile(path, maxLogBytes))
  bound()
  const timer = setInterval(bound, boundLogsEveryMs).unref()
  cleanup.defer(() => clearInterval(timer))
}

function whatBecomesOfData({ given }: StackConfig, { ephemeral, path }: DataFolder): string {
  if (given.databases) return 'your databases keep the data'
  return ephemeral ? 'the data are removed' : `the data stay in ${path}`
}
