import { join } from 'node:path'
import {
  cacheFolder,
  connectJars,
  type ConnectWorker,
  type DataFolder,
  ensureDatabase,
  ensureJars,
  findFreePorts,
  findJava,
  type Kafka,
  openDataFolder,
  openSecrets,
  type Postgres,
  type ServiceName,
  StackError,
  startConnect,
  startKafka,
  startPostgres,
  twoPostgresServers,
  wireServices,
} from 'local-stack'
import { migrate } from 'migrations/migrate'
import type { Harm } from './harm.ts'
import { ServerProcess } from './server-process.ts'
import { ServiceProcess } from './service-process.ts'
import { TcpProxy } from './tcp-proxy.ts'

/** Of the events of accounts. */
export const topic = 'account-events'

/** The lines between a service and its servers, each through a proxy of its own. */
export const lineNames = [
  'relay-postgres',
  'relay-kafka',
  'command-postgres',
  'query-postgres',
  'query-kafka',
] as const
export type LineName = (typeof lineNames)[number]

/** Timeouts of the parts, shortened so that a drill takes seconds. */
const shortened = {
  RELAY_LEASE_MS: '1000',
  HEARTBEAT_SECONDS: '1',
  SWEEP_SECONDS: '2',
  // The read model that is checked; what it stands on is the same for all.
  PROJECTIONS: 'accounts',
}

export type StackOptions = {
  /** Kept afterwards; without one a temporary folder, removed at the end. */
  folder?: string | undefined
  /** Environment of one service beside the usual. */
  environment?: Partial<Record<ServiceName, Record<string, string>>>
  /** With a Kafka Connect, for mode debezium. */
  connect?: boolean
  /** With a proxy before what reads the log, the connector included: `cdcLine`. */
  cdcLine?: boolean
  /** The read database on a PostgreSQL of its own; by default where TEST_POSTGRES_SERVERS says so. */
  readServer?: boolean
  /** The services as they are by default: all projections, and no timeout shortened. */
  asShipped?: boolean
}

type Ports = {
  postgres: number
  readPostgres: number
  kafka: number
  controller: number
  relayListener: number
  queryListener: number
  commandApi: number
  queryApi: number
  relay: number
  secondRelay: number
}

/** Real servers and services, each in a process group of its own, on loopback. */
export class DrillStack {
  readonly lines: Record<LineName, TcpProxy>
  readonly cdcLine: TcpProxy | undefined
  readonly services: Record<ServiceName, ServiceProcess>
  /** Stands by when started; not running otherwise. */
  readonly secondRelay: ServiceProcess
  readonly commandUrl: string
  /** Of Kafka Connect, where there is one. */
  readonly connectUrl: string | undefined
  readonly writeUrl: string
  readonly readUrl: string
  /** As the load writes: the command side's role, straight to the server. */
  readonly commandRoleUrl: string
  readonly brokers: string[]
  /** What was done to the read side that it must notice. */
  readonly harms: Harm[] = []
  readonly logFile: (label: string) => string
  readonly #cleanup: AsyncDisposableStack
  readonly #another: Record<'outbox-relay' | 'query-api', Another>
  readonly #more: ServiceProcess[] = []
  /** One server, unless the read database has its own. */
  readonly postgres: Record<'write' | 'read', ServerProcess<Postgres>>
  readonly kafka: ServerProcess<Kafka>
  readonly #connectWorker: ConnectWorker | undefined

  private constructor(parts: Parts, cleanup: AsyncDisposableStack) {
    const { wiring, ports, lines, dataFolder, environment = {}, asShipped = false } = parts
    this.lines = lines
    this.cdcLine = parts.cdcLine
    this.#cleanup = cleanup
    this.postgres = parts.postgres
    this.kafka = parts.kafka
    this.#connectWorker = parts.connectWorker
    const service = (name: ServiceName, label: string, extra: Record<string, string>) => {
      const { url, env } = wiring[name]
      const all = { ...env, ...(asShipped ? {} : shortened), ...environment[name], ...extra }
      const given = { name, label, url: extra.URL ?? url, env: all, dataFolder }
      return new ServiceProcess(given)
    }
    const line = (name: LineName) => throughPort(lines[name].port)
    const [relayEnv, commandEnv, queryEnv] = (
      ['outbox-relay', 'command-api', 'query-api'] as const
    ).map((name) => wiring[name].env)
    const relayLines = {
      WRITE_DATABASE_URL: line('relay-postgres')(relayEnv!.WRITE_DATABASE_URL!),
      KAFKA_BROKERS: `127.0.0.1:${lines['relay-kafka'].port}`,
      ...(parts.cdcLine === undefined
        ? {}
        : { CDC_DATABASE_URL: throughPort(parts.cdcLine.port)(relayEnv!.CDC_DATABASE_URL!) }),
    }
    const queryLines = {
      READ_DATABASE_URL: line('query-postgres')(queryEnv!.READ_DATABASE_URL!),
      PROJECTOR_DATABASE_URL: line('query-postgres')(queryEnv!.PROJECTOR_DATABASE_URL!),
      KAFKA_BROKERS: `127.0.0.1:${lines['query-kafka'].port}`,
    }
    this.services = {
      'outbox-relay': service('outbox-relay', 'outbox-relay', relayLines),
      'command-api': service('command-api', 'command-api', {
        WRITE_DATABASE_URL: line('command-postgres')(commandEnv!.WRITE_DATABASE_URL!),
      }),
      'query-api': service('query-api', 'query-api', queryLines),
    }
    const another =
      (name: ServiceName, portVariable: string, extra: Record<string, string>): Another =>
      (label, port) =>
        service(name, label, {
          ...extra,
          [portVariable]: String(port),
          URL: `http://127.0.0.1:${port}`,
        })
    this.#another = {
      'outbox-relay': another('outbox-relay', 'RELAY_PORT', relayLines),
      'query-api': another('query-api', 'QUERY_API_PORT', queryLines),
    }
    this.secondRelay = this.#another['outbox-relay']('second-relay', ports.secondRelay)
    this.commandUrl = wiring['command-api'].url
    this.connectUrl = parts.connectWorker?.url
    this.writeUrl = parts.databases.write
    this.readUrl = parts.databases.read
    this.commandRoleUrl = commandEnv!.WRITE_DATABASE_URL!
    this.logFile = dataFolder.logFile
    this.brokers = [`127.0.0.1:${ports.kafka}`]
  }

  static async start(options: StackOptions): Promise<DrillStack> {
    await using cleanup = new AsyncDisposableStack()
    const parts = await startServers(options, cleanup)
    const { environment, asShipped } = options
    const stack = new DrillStack({ ...parts, environment, asShipped }, cleanup.move())
    try {
      await Promise.all(Object.values(stack.services).map((each) => each.start()))
      return stack
    } catch (error) {
      await stack[Symbol.asyncDispose]()
      throw error
    }
  }

  get processes(): ServiceProcess[] {
    return [...Object.values(this.services), this.secondRelay, ...this.#more]
  }

  /** One more of a kind, started. */
  async add(name: 'outbox-relay' | 'query-api', label: string): Promise<ServiceProcess> {
    const [port = 0] = await findFreePorts(1)
    const service = this.#another[name](label, port)
    this.#more.push(service)
    await service.start()
    return service
  }

  /** kill -9 of every postmaster, and a start on what they left. */
  async bouncePostgres(): Promise<void> {
    await Promise.all(
      this.#postgresServers.map(async (server) => {
        await server.kill()
        await server.startAgain()
      }),
    )
  }

  get #postgresServers(): ServerProcess<Postgres>[] {
    return [...new Set(Object.values(this.postgres))]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.processes.map((each) => each.stop()))
    await this.#connectWorker?.stop()
    await Promise.all([this.kafka, ...this.#postgresServers].map((server) => server.stop()))
    await this.#cleanup.disposeAsync()
  }
}

type Another = (label: string, port: number) => ServiceProcess
type Parts = Awaited<ReturnType<typeof startServers>> & {
  environment: StackOptions['environment']
  asShipped: boolean | undefined
}

async function startServers(
  { folder, connect, cdcLine, readServer = twoPostgresServers() }: StackOptions,
  cleanup: AsyncDisposableStack,
) {
  const dataFolder = cleanup.use(await openDataFolder(folder))
  const readFolder = readServer
    ? cleanup.use(await openDataFolder(folder && join(folder, 'read-server')))
    : dataFolder
  // Whoever interrupts a drill is not left with its processes.
  const interrupted = () => {
    for (const each of [dataFolder, readFolder]) each.ledger.killAll()
    process.exit(1)
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, interrupted)
    cleanup.defer(() => void process.off(signal, interrupted))
  }
  const ports = await choosePorts(readServer)
  const secrets = openSecrets(dataFolder)
  // A crash of a process costs nothing without fsync; one of the machine would.
  const password = secrets.postgres
  const runPostgres = (own: DataFolder, port: number) =>
    ServerProcess.start(() => startPostgres({ dataFolder: own, port, password, durable: false }))
  const lines = await openLines(ports, cleanup)
  const line = cdcLine ? cleanup.use(await TcpProxy.open(ports.postgres)) : undefined
  const runKafka = await kafkaStarter(dataFolder, ports, lines)
  const [write, kafka] = await Promise.all([
    runPostgres(dataFolder, ports.postgres),
    ServerProcess.start(runKafka),
  ])
  const read = readServer ? await runPostgres(readFolder, ports.readPostgres) : write
  await ensureDatabase(write.running.url(), 'sluice_write')
  await ensureDatabase(read.running.url(), 'sluice_read')
  const databases = {
    write: write.running.url('sluice_write'),
    read: read.running.url('sluice_read'),
  }
  const brokers = [`127.0.0.1:${ports.kafka}`]
  await migrate({
    writeUrl: databases.write,
    readUrl: databases.read,
    brokers,
    passwords: secrets.roles,
    report: () => {},
  })
  const connectWorker = connect ? await openConnect(dataFolder, brokers) : undefined
  const wiring = wireServices({
    host: '127.0.0.1',
    auth: 'off',
    ports,
    databases,
    brokers,
    connectUrl: connectWorker?.url,
    secrets,
    accessKeysFile: '',
  })
  return {
    dataFolder,
    ports,
    lines,
    cdcLine: line,
    wiring,
    databases,
    postgres: { write, read },
    kafka,
    connectWorker,
  }
}

async function choosePorts(readServer: boolean): Promise<Ports> {
  const names = [
    'postgres',
    'readPostgres',
    'kafka',
    'controller',
    'relayListener',
    'queryListener',
    'commandApi',
    'queryApi',
    'relay',
    'secondRelay',
  ] as const
  const free = await findFreePorts(names.length)
  const ports = Object.fromEntries(names.map((name, n) => [name, free[n]])) as Ports
  return readServer ? ports : { ...ports, readPostgres: ports.postgres }
}

async function openLines(ports: Ports, cleanup: AsyncDisposableStack) {
  const targets: Record<LineName, number> = {
    'relay-postgres': ports.postgres,
    'command-postgres': ports.postgres,
    'query-postgres': ports.readPostgres,
    'relay-kafka': ports.relayListener,
    'query-kafka': ports.queryListener,
  }
  const lines = {} as Record<LineName, TcpProxy>
  for (const name of lineNames) lines[name] = cleanup.use(await TcpProxy.open(targets[name]))
  return lines
}

async function openConnect(dataFolder: DataFolder, brokers: string[]): Promise<ConnectWorker> {
  const [port = 0] = await findFreePorts(1)
  const fetched = { cacheFolder: cacheFolder(process.env), environment: process.env }
  const jars = await ensureJars({ ...fetched, set: connectJars, progress: () => {} })
  const java = requireJava()
  return startConnect({ dataFolder, jars, java, brokers, port, quickStart: true })
}

function requireJava(): string {
  const found = findJava(process.env)
  if ('java' in found) return found.java
  throw new StackError('java_missing', `drills need Java: ${found.missing}`)
}

/**
 * A broker with a listener for each service, advertised as that service's proxy: so that not only
 * the first connection goes through it. The checker has one without.
 */
async function kafkaStarter(
  dataFolder: DataFolder,
  ports: Ports,
  lines: Record<LineName, TcpProxy>,
): Promise<() => Promise<Kafka>> {
  const java = requireJava()
  const jars = await ensureJars({
    cacheFolder: cacheFolder(process.env),
    environment: process.env,
    progress: () => {},
  })
  const listeners = (relay: number, query: number) =>
    [
      `PLAINTEXT://127.0.0.1:${ports.kafka}`,
      `RELAY://127.0.0.1:${relay}`,
      `QUERY://127.0.0.1:${query}`,
    ].join(',')
  const own = listeners(ports.relayListener, ports.queryListener)
  const properties = {
    listeners: `${own},CONTROLLER://127.0.0.1:${ports.controller}`,
    'advertised.listeners': listeners(lines['relay-kafka'].port, lines['query-kafka'].port),
    'listener.security.protocol.map':
      'PLAINTEXT:PLAINTEXT,RELAY:PLAINTEXT,QUERY:PLAINTEXT,CONTROLLER:PLAINTEXT',
    // The broker's clock, not the producer's: when a record was in the log.
    'log.message.timestamp.type': 'LogAppendTime',
  }
  const { kafka: port, controller: controllerPort } = ports
  return () =>
    startKafka({ dataFolder, jars, java, port, controllerPort, properties, quickStart: true })
}

function throughPort(port: number): (url: string) => string {
  return (url) => Object.assign(new URL(url), { port: String(port) }).href
}
