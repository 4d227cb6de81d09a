import { migrate } from 'migrations/migrate'
import { chooseKafkaRuntime } from './kafka/kafka-runtime.ts'
import { ensureDatabase, startPostgres } from './postgres/postgres.ts'
import type { Child } from './processes/child.ts'
import { describeDeath, supervise, type Supervised } from './processes/supervisor.ts'
import type { Secrets } from './secrets.ts'
import type { Start } from './start.ts'
import type { Step, Steps } from './steps.ts'

export type Databases = { write: string; read: string }

/** URLs of a role that may do everything: of the databases given, or of a PostgreSQL started now. */
export async function useDatabases(step: Step, start: Start): Promise<Databases> {
  const { config, folder, secrets, signal, cleanup, steps } = start
  if (config.given.databases !== undefined) {
    step.detail = 'given by MIGRATOR_WRITE_DATABASE_URL and MIGRATOR_READ_DATABASE_URL'
    return config.given.databases
  }
  const port = config.ports.postgres
  const postgres = await supervise({
    name: 'PostgreSQL',
    launch: () => startPostgres({ dataFolder: folder, port, password: secrets.postgres, signal }),
    ...reports(steps, signal),
  })
  cleanup.defer(() => stopping(steps, 'PostgreSQL', [postgres]))
  const { url, created, note, pid } = postgres.first
  for (const name of ['sluice_write', 'sluice_read']) await ensureDatabase(url(), name)
  step.detail = `127.0.0.1:${port}, pid ${pid}, ${dataAge(created)}${note ? `, ${note}` : ''}`
  return { write: url('sluice_write'), read: url('sluice_read') }
}

/** The brokers given, or those of a Kafka started now. */
export async function useKafka(step: Step, start: Start): Promise<string[]> {
  const { config, environment, folder, signal, cleanup, steps } = start
  if (config.given.brokers !== undefined) {
    step.detail = `given by KAFKA_BROKERS: ${config.given.brokers.join(', ')}`
    return config.given.brokers
  }
  const runtime = await chooseKafkaRuntime({
    dataFolder: folder,
    cacheDir: config.cacheDir,
    port: config.ports.kafka,
    controllerPort: config.ports.kafkaController,
    environment,
    progress: step.progress,
    signal,
  })
  if (runtime.kind === 'container') {
    const container = await runtime.launch()
    cleanup.defer(() =>
      steps.run('Kafka', async (last) => {
        await container.stop()
        last.detail = 'container stopped'
      }),
    )
    step.detail = `${container.brokers.join(', ')}, in a container, open on every address`
    return container.brokers
  }
  const name = 'Kafka'
  const kafka = await supervise({ name, launch: runtime.launch, ...reports(steps, signal) })
  cleanup.defer(() => stopping(steps, 'Kafka', [kafka]))
  const { brokers, created, pid } = kafka.first
  step.detail = `${brokers.join(', ')}, pid ${pid}, ${dataAge(created)}`
  return brokers
}

/** Brings databases, roles and topics to this version. */
export async function runMigrations(
  step: Step,
  options: { databases: Databases; brokers: string[]; secrets: Secrets },
): Promise<void> {
  const { databases, brokers, secrets } = options
  let done = 0
  await migrate({
    writeUrl: databases.write,
    readUrl: databases.read,
    brokers,
    passwords: secrets.roles,
    report(line) {
      step.progress(line)
      // Roles are set at every start and reported so; anything else was missing until now.
      if (!line.endsWith(': roles')) done++
    },
  })
  step.detail = done === 0 ? 'databases, roles and topics are as they should be' : `${done} applied`
}

/** How a supervised process's deaths and returns are told, unless everything is stopping. */
export function reports(steps: Steps, signal: AbortSignal) {
  return {
    onDeath(death: Parameters<typeof describeDeath>[0]) {
      if (!signal.aborted) steps.warn(describeDeath(death))
    },
    onRestart(child: Child) {
      steps.say(`${child.name} runs again, pid ${child.pid}`)
    },
  }
}

/** Stops all at once, as one line. */
export function stopping(steps: Steps, title: string, running: Supervised[]): Promise<void> {
  return steps.run(title, async (step) => {
    await Promise.all(running.map((one) => one.stop()))
    step.detail = 'stopped'
  })
}

function dataAge(created: boolean): string {
  return created ? 'new data' : 'data kept from before'
}
