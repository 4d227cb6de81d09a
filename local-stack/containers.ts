// PostgreSQL and Kafka in containers, for machines without Java and for tests that should see the
// images users run. Published ports are open on every address of this machine, as Docker does by
// default: PostgreSQL asks for its password there, Kafka asks for nothing.
import {
  GenericContainer,
  getContainerRuntimeClient,
  Wait,
  type StartedTestContainer,
} from 'testcontainers'
import { waitUntil } from './wait-until.ts'
import { StackError } from './errors.ts'
import { brokerAnswers } from './kafka/broker-answers.ts'
import { singleNodeProperties } from './kafka/kafka.ts'
import { whyNotAnswering } from './postgres/postgres.ts'

const postgresImage = 'postgres:18'
export const kafkaImage = 'apache/kafka:4.3.1'

const ownerLabel = 'sluice.data-folder'
const startupTimeoutMs = 120_000

export type ContainerOptions = {
  port: number
  /** A volume's name: data outlive the container. Without: gone with it. */
  volume?: string
  /** The data folder whose container this is, so that its next start finds it after a kill -9. */
  owner?: string
  signal?: AbortSignal
}

export type ContainerHandle = { stop(): Promise<void> }

/** Does Docker, or what stands for it, answer? */
export async function dockerAnswers(): Promise<boolean> {
  try {
    await getContainerRuntimeClient()
    return true
  } catch {
    return false
  }
}

/** PostgreSQL 18; `url` as of the embedded one. Throws `container_start_failed`. */
export async function startPostgresContainer(
  options: ContainerOptions & { password: string; settings?: Record<string, string | number> },
): Promise<ContainerHandle & { url(database?: string): string }> {
  const { port, password, settings = {} } = options
  const flags = Object.entries({
    wal_level: 'logical',
    max_replication_slots: 30,
    max_wal_senders: 30,
    max_prepared_transactions: 10,
    max_connections: 200,
    ...settings,
  }).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const container = new GenericContainer(postgresImage)
    .withEnvironment({ POSTGRES_PASSWORD: password })
    .withCommand(['postgres', ...flags])
    .withExposedPorts({ container: 5432, host: port })
  const started = await start(container, '/var/lib/postgresql', options)
  const url = (database = 'postgres') =>
    `postgres://postgres:${encodeURIComponent(password)}@127.0.0.1:${port}/${database}`
  await answering(started, options, async () => (await whyNotAnswering(url())) === undefined)
  return { url, stop: () => stop(started) }
}

/** Kafka 4.3.1, one node; `brokers` as of the embedded one. Throws `container_start_failed`. */
export async function startKafkaContainer(
  options: ContainerOptions & { properties?: Record<string, string | number> },
): Promise<ContainerHandle & { brokers: string[] }> {
  const { port } = options
  const all: Record<string, string | number> = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': '1@localhost:9093',
    listeners: 'PLAINTEXT://:9092,CONTROLLER://:9093',
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}`,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': '/var/lib/kafka/data',
    ...singleNodeProperties,
    ...options.properties,
  }
  const container = new GenericContainer(kafkaImage)
    .withEnvironment(
      Object.fromEntries(
        Object.entries(all).map(([name, value]) => [kafkaVariable(name), String(value)]),
      ),
    )
    .withExposedPorts({ container: 9092, host: port })
  const started = await start(container, '/var/lib/kafka/data', options)
  await answering(started, options, () => brokerAnswers(port))
  return { brokers: [`127.0.0.1:${port}`], stop: () => stop(started) }
}

/** As the image reads its properties: `KAFKA_`, and an underscore for each dot. */
export function kafkaVariable(property: string): string {
  const name = property.replaceAll('_', '__').replaceAll('-', '___').replaceAll('.', '_')
  return `KAFKA_${name.toUpperCase()}`
}

/** Removes containers that a killed start of this data folder left running; says how many. */
export async function removeOrphanContainers(owner: string): Promise<number> {
  const { container } = await getContainerRuntimeClient()
  const found = (await container.list()).filter((one) => one.Labels[ownerLabel] === owner)
  for (const { Id: id } of found) {
    const orphan = container.getById(id)
    await container.stop(orphan, { timeout: 20_000 })
    await container.remove(orphan, { removeVolumes: true })
  }
  return found.length
}

async function start(
  container: GenericContainer,
  dataPath: string,
  { volume, owner, signal }: ContainerOptions,
): Promise<StartedTestContainer> {
  signal?.throwIfAborted()
  if (volume !== undefined) container.withBindMounts([{ source: volume, target: dataPath }])
  if (owner !== undefined) container.withLabels({ [ownerLabel]: owner })
  // We ask the server itself when it is ready; the log of one on old data says other things.
  const waiting = Wait.forListeningPorts().withStartupTimeout(startupTimeoutMs)
  try {
    return await container.withWaitStrategy(waiting).start()
  } catch (cause) {
    throw new StackError('container_start_failed', (cause as Error).message, { cause })
  }
}

async function answering(
  container: StartedTestContainer,
  { signal }: ContainerOptions,
  answers: () => Promise<boolean>,
): Promise<void> {
  try {
    const what = `${container.getName()} to answer`
    await waitUntil(answers, { what, deadlineMs: startupTimeoutMs, ...(signal && { signal }) })
  } catch (error) {
    await stop(container)
    throw error
  }
}

/** Gently: both servers close their files at the signal that their images name. */
async function stop(container: StartedTestContainer): Promise<void> {
  await container.stop({ timeout: 20_000, remove: true, removeVolumes: true })
}
