// vitest's global setup: one PostgreSQL for the whole run (two with TEST_POSTGRES_SERVERS=2, the read
// databases on the second) and, where tests need them, one Kafka and one Kafka Connect. All projects
// share them, though vitest loads this file once for each: so what is shared hangs on globalThis, with
// a count of its users.
import { createHash, randomBytes } from 'node:crypto'
import { Client } from 'pg'
import { migrate } from 'migrations/migrate'
import type { TestProject } from 'vitest/node'
import { cacheFolder } from './config.ts'
import { offerTestWorker } from './connect/test-worker.ts'
import { openDataFolder, type DataFolder } from './data-folder.ts'
import { StackError } from './errors.ts'
import { ensureJars } from './kafka/jars.ts'
import { findJava } from './kafka/java.ts'
import { startKafka } from './kafka/kafka.ts'
import { ensureDatabase, startPostgres } from './postgres/postgres.ts'
import { twoPostgresServers } from './postgres/server-count.ts'
import { findFreePorts } from './processes/ports.ts'
import { roleNames, type Secrets } from './secrets.ts'

export type TestTemplates = { write: string; read: string; passwords: Secrets['roles'] }

declare module 'vitest' {
  interface ProvidedContext {
    /** The superuser's, to the database `postgres` of the server with the write databases. */
    postgresUrl: string
    /** The same of the read databases' server, which may be another. */
    readPostgresUrl: string
    /** Empty where no test needs Kafka. */
    brokers: string[]
    /** Where a test asks for Kafka Connect; empty where no test needs Kafka. */
    connectStarter: string
    testTemplates: TestTemplates
  }
}

type TestPostgres = { urls: Record<'write' | 'read', string>; templates: TestTemplates }

type Servers = {
  users: number
  cleanup: AsyncDisposableStack
  folder?: Promise<DataFolder>
  postgres?: Promise<TestPostgres>
  kafka?: Promise<string[]>
  connectStarter?: Promise<string>
}

const shared = globalThis as typeof globalThis & { sluiceTestServers?: Servers }

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const servers = (shared.sluiceTestServers ??= { users: 0, cleanup: new AsyncDisposableStack() })
  servers.users++
  const release = async () => {
    servers.users--
    if (servers.users > 0) return
    delete shared.sluiceTestServers
    await servers.cleanup.disposeAsync()
  }
  try {
    const needsKafka = project.name === 'kafka' || project.name === 'long'
    const [postgres, brokers] = await Promise.all([
      (servers.postgres ??= usePostgres(servers)),
      needsKafka ? (servers.kafka ??= useKafka(servers)) : [],
    ])
    if (needsKafka) await migrateTemplates(postgres, brokers)
    project.provide('postgresUrl', postgres.urls.write)
    project.provide('readPostgresUrl', postgres.urls.read)
    project.provide('testTemplates', postgres.templates)
    project.provide('brokers', brokers)
    project.provide(
      'connectStarter',
      needsKafka ? await (servers.connectStarter ??= offerConnect(servers, brokers)) : '',
    )
    return release
  } catch (error) {
    await release()
    throw error
  }
}

async function usePostgres(servers: Servers): Promise<TestPostgres> {
  const url = process.env.TEST_POSTGRES_URL ?? (await startTestPostgres(servers, ownFolder))
  const second = () => startTestPostgres(servers, ({ cleanup }) => openTestFolder(cleanup))
  const urls = { write: url, read: twoPostgresServers() ? await second() : url }
  const run = randomBytes(4).toString('hex')
  const templates = {
    write: `template_write_${run}`,
    read: `template_read_${run}`,
    passwords: testPasswords(url),
  }
  for (const side of ['write', 'read'] as const) {
    await ensureDatabase(urls[side], templates[side])
    servers.cleanup.defer(() => dropDatabase(urls[side], templates[side]))
  }
  await migrateTemplates({ urls, templates }, [])
  return { urls, templates }
}

const ownFolder = (servers: Servers) => (servers.folder ??= openTestFolder(servers.cleanup))

async function startTestPostgres(
  servers: Servers,
  openFolder: (servers: Servers) => Promise<DataFolder>,
): Promise<string> {
  const { cleanup } = servers
  const [port = 0] = await findFreePorts(1)
  const password = randomBytes(12).toString('hex')
  if (inContainers()) {
    const { startPostgresContainer } = await import('./containers.ts')
    const postgres = await startPostgresContainer({ port, password, settings: { fsync: 'off' } })
    cleanup.defer(postgres.stop)
    return postgres.url()
  }
  const dataFolder = await openFolder(servers)
  const postgres = await startPostgres({ dataFolder, port, password, durable: false })
  cleanup.defer(postgres.stop)
  return postgres.url()
}

/** No test is skipped for want of it: throws `java_missing`. */
export function testJava(): string {
  const found = findJava(process.env)
  if ('java' in found) return found.java
  throw new StackError(
    'java_missing',
    `Kafka needs Java 17 or newer: ${found.missing}. With Docker, set TEST_STACK=containers.`,
  )
}

async function useKafka(servers: Servers): Promise<string[]> {
  const given = process.env.TEST_KAFKA_BROKERS
  if (given !== undefined) return given.split(',')
  const [port = 0, controllerPort = 0] = await findFreePorts(2)
  if (inContainers()) {
    const { startKafkaContainer } = await import('./containers.ts')
    const kafka = await startKafkaContainer({ port })
    servers.cleanup.defer(kafka.stop)
    return kafka.brokers
  }
  const java = testJava()
  const jars = await ensureTestJars()
  const dataFolder = await ownFolder(servers)
  const kafka = await startKafka({
    dataFolder,
    jars,
    java,
    port,
    controllerPort,
    quickStart: true,
  })
  servers.cleanup.defer(kafka.stop)
  return kafka.brokers
}

function offerConnect(servers: Servers, brokers: string[]): Promise<string> {
  const { cleanup } = servers
  const openFolder = () => ownFolder(servers)
  return offerTestWorker({ brokers, openFolder, cleanup })
}

/** Kafka's jars from the cache that `npm start` uses too. */
export function ensureTestJars(): Promise<string> {
  return ensureJars({
    cacheFolder: cacheFolder(process.env),
    environment: process.env,
    progress: (text) => process.stdout.isTTY && process.stdout.write(`\r\x1b[2K${text}`),
  })
}

async function openTestFolder(cleanup: AsyncDisposableStack): Promise<DataFolder> {
  return cleanup.use(await openDataFolder())
}

function inContainers(): boolean {
  const stack = process.env.TEST_STACK ?? 'embedded'
  if (stack === 'containers' || stack === 'embedded') return stack === 'containers'
  throw new StackError(
    'config_invalid',
    `TEST_STACK is ${stack}: it must be containers or embedded`,
  )
}

/** The same for all runs against one server, since roles belong to the server. */
function testPasswords(url: string): Secrets['roles'] {
  const password = (role: string) =>
    createHash('sha256')
      .update(`${role} ${new URL(url).password}`)
      .digest('hex')
      .slice(0, 32)
  return Object.fromEntries(roleNames.map((role) => [role, password(role)])) as Secrets['roles']
}

async function migrateTemplates(
  { urls, templates }: TestPostgres,
  brokers: string[],
): Promise<void> {
  const at = (side: 'write' | 'read') =>
    Object.assign(new URL(urls[side]), { pathname: `/${templates[side]}` }).href
  await migrate({
    writeUrl: at('write'),
    readUrl: at('read'),
    brokers,
    passwords: templates.passwords,
    report: () => {},
  })
}

async function dropDatabase(url: string, name: string): Promise<void> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(`drop database if exists ${client.escapeIdentifier(name)}`)
  } finally {
    await client.end()
  }
}
