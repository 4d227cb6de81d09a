import {
  cacheFolder,
  type Child,
  ensureAccessKeys,
  ensureDatabase,
  ensureJars,
  findFreePorts,
  findJava,
  type DataFolder,
  openDataFolder,
  openSecrets,
  type RoleName,
  asRole,
  connectJars,
  type ConnectWorker,
  type JarSet,
  type ServiceName,
  startConnect,
  startKafka,
  startPostgres,
  startService,
  waitUntil,
  wireServices,
} from 'local-stack'
import { migrate } from 'migrations/migrate'
import pg from 'pg'
import { BenchError } from './errors.ts'
import type { Progress } from './progress.ts'

// Servers of the bench's own, as `npm start` starts them (PostgreSQL with fsync), in a folder that
// is removed at the end. The one setting beside ours is track_commit_timestamp: it tells when a
// row's transaction committed, so that nobody has to poll for it.

export type Servers = {
  brokers: string[]
  postgresPid: number
  accessKey: string
  versions: { postgres: string; kafka: string }
  /** New, migrated write and read databases. */
  databases(name: string): Promise<Databases>
  /** Writes out what earlier measurements left, so that none pays for another. */
  checkpoint(): Promise<void>
  /** Starts a service on these databases; resolves when it listens. */
  service(databases: Databases, options: ServiceOptions): Promise<RunningService>
  /** Kafka stands still until it is told to go on. */
  signalKafka(signal: 'SIGSTOP' | 'SIGCONT'): void
  /** A Connect worker of its own each time; the caller's to stop. */
  connectWorker(): Promise<ConnectWorker>
  [Symbol.asyncDispose](): Promise<void>
}

export type Databases = {
  write(role?: RoleName): string
  read(role?: RoleName): string
}

type ServiceOptions = {
  name: ServiceName
  label: string
  env?: Record<string, string>
  /** Of services that find each other: a set made by `ports`. */
  ports?: ServicePorts
}

export type ServicePorts = { commandApi: number; queryApi: number; relay: number }

export type RunningService = Child & { url: string; port: number }

/** 1 GB of 16 MB segments. */
const walSegments = 64

/**
 * With the segments of WAL that a server has which has run for a while: a new one makes each segment
 * while commits wait for it, and what is measured would mostly be that.
 */
async function startSteadyPostgres(
  options: Pick<Parameters<typeof startPostgres>[0], 'dataFolder' | 'port' | 'password'>,
) {
  const postgres = await startPostgres({
    ...options,
    settings: {
      track_commit_timestamp: 'on',
      max_wal_size: '4GB',
      min_wal_size: `${walSegments * 16}MB`,
    },
  })
  await using admin = await connect(postgres.url())
  for (let segment = 0; segment < walSegments; segment += 1) {
    await admin.query(`select pg_logical_emit_message(true, 'bench', ''), pg_switch_wal()`)
  }
  await admin.query('checkpoint')
  return postgres
}

/** Without Kafka there are no topics either: enough for what only the write side does. */
export async function startServers(
  progress: Progress,
  { withKafka }: { withKafka: boolean },
): Promise<Servers> {
  await using cleanup = new AsyncDisposableStack()
  const dataFolder = cleanup.use(await openDataFolder())
  const secrets = openSecrets(dataFolder)
  const [postgresPort = 0, kafkaPort = 0, controllerPort = 0] = await findFreePorts(3)
  progress.step(`starting PostgreSQL${withKafka ? ' and Kafka' : ''}`)
  const password = secrets.postgres
  const postgres = await startSteadyPostgres({ dataFolder, port: postgresPort, password })
  cleanup.defer(postgres.stop)
  const kafka = withKafka
    ? await startBroker(dataFolder, { port: kafkaPort, controllerPort }, progress)
    : undefined
  cleanup.defer(async () => kafka?.stop())
  const brokers = [...(kafka?.brokers ?? [])]
  const accessKeysFile = ensureAccessKeys(dataFolder, secrets.developmentKey, secrets.queryApiKey)
  const admin = cleanup.use(await connect(postgres.url()))
  const { rows } = await admin.query<{ version: string }>(
    `select current_setting('server_version') as version`,
  )
  const kept = cleanup.move()
  return {
    brokers,
    postgresPid: postgres.pid,
    accessKey: secrets.developmentKey,
    versions: { postgres: rows[0]?.version ?? 'unknown', kafka: '4.3.1' },
    async databases(name) {
      const [write, read] = [`${name}_write`, `${name}_read`]
      for (const each of [write, read]) await ensureDatabase(postgres.url(), each)
      await migrate({
        writeUrl: postgres.url(write),
        readUrl: postgres.url(read),
        brokers,
        passwords: secrets.roles,
        report: () => {},
      })
      const url = (database: string, role?: RoleName) =>
        role === undefined
          ? postgres.url(database)
          : asRole(postgres.url(database), role, secrets.roles[role])
      return { write: (role) => url(write, role), read: (role) => url(read, role) }
    },
    checkpoint: async () => void (await admin.query('checkpoint')),
    async service(databases, { name, label, env = {}, ports }) {
      const wiring = wireServices({
        host: '127.0.0.1',
        auth: 'on',
        ports: ports ?? (await freeServicePorts()),
        databases: { write: databases.write(), read: databases.read() },
        brokers,
        secrets,
        accessKeysFile,
      })[name]
      const all = { ...wiring.env, ...env }
      const child = await startService({ name, dataFolder, label, env: all })
      await listening(child, wiring.url)
      return { ...child, url: wiring.url, port: Number(new URL(wiring.url).port) }
    },
    signalKafka: (signal) => kafka?.kill(signal),
    connectWorker: () => startWorker(dataFolder, brokers, progress),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

export async function freeServicePorts(): Promise<ServicePorts> {
  const [commandApi = 0, queryApi = 0, relay = 0] = await findFreePorts(3)
  return { commandApi, queryApi, relay }
}

/** A connection as superuser or role, closed when disposed of. */
export async function connect(url: string): Promise<pg.Client & AsyncDisposable> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() })
}

async function startBroker(
  dataFolder: DataFolder,
  ports: { port: number; controllerPort: number },
  progress: Progress,
) {
  return startKafka({ dataFolder, ...(await javaWith(progress)), ...ports })
}

async function startWorker(dataFolder: DataFolder, brokers: string[], progress: Progress) {
  const [port = 0] = await findFreePorts(1)
  const program = await javaWith(progress, connectJars)
  return startConnect({ dataFolder, ...program, brokers, port, heapMb: 1_024 })
}

/** Java, and a server's jars: Kafka's when none are named. */
async function javaWith(progress: Progress, set?: JarSet) {
  const found = findJava(process.env)
  if ('missing' in found) {
    throw new BenchError('servers_unavailable', `Kafka needs Java 17 or newer: ${found.missing}`)
  }
  const jars = await ensureJars({
    ...(set === undefined ? {} : { set }),
    cacheFolder: cacheFolder(process.env),
    environment: process.env,
    progress: (text) => progress.tick(text),
  })
  return { jars, java: found.java }
}

async function listening(child: Child, url: string): Promise<void> {
  let ended = false
  void child.exited.then(() => (ended = true))
  await waitUntil(
    async () => {
      if (ended) return true
      return (await fetch(`${url}/livez`)).ok
    },
    { what: `${child.name} to answer`, deadlineMs: 20_000 },
  )
  if (!ended) return
  throw new BenchError(
    'measurement_failed',
    `${child.name} ended at its start:\n${child.logTail()}`,
  )
}
