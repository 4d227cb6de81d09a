import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  asRole,
  type DataFolder,
  ensureDatabase,
  findFreePorts,
  openDataFolder,
  startPostgres,
} from 'local-stack'
import { migrate } from 'migrations/migrate'
import type { OutboxPlace } from './test-stage.ts'

/** Servers of a test's own are processes of this machine. */
export const ownServers = process.env.TEST_STACK !== 'containers'

const passwords = { sluice_relay: 'of-the-relay', sluice_cdc: 'of-its-cdc' }

/** A PostgreSQL of the test's own, migrated, always on the same port: for what is done to a server. */
export async function openServer() {
  await using cleanup = new AsyncDisposableStack()
  const dataFolder = cleanup.use(await openDataFolder())
  const [port = 0] = await findFreePorts(1)
  const password = randomBytes(8).toString('hex')
  const server = await serve({ dataFolder, port, password })
  cleanup.defer(() => server.stop())
  const [writeUrl, readUrl] = [server.url('sluice_write'), server.url('sluice_read')]
  for (const name of ['sluice_write', 'sluice_read']) {
    await ensureDatabase(server.url('postgres'), name)
  }
  await migrate({ writeUrl, readUrl, brokers: [], passwords, report: () => {} })
  const moved = cleanup.move()
  return {
    ...server,
    /** Of the stopped server: sets a copy of its files aside; the function given puts them back. */
    setAside: () => setAside(dataFolder),
    /** Stops the server for a moment, to copy it; the copy follows it, on a port of its own. */
    openStandby: () => openStandby(server, { dataFolder, password }),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  }
}

type Files = { dataFolder: DataFolder; password: string }
type Served = Awaited<ReturnType<typeof serve>>

function setAside(dataFolder: DataFolder): () => void {
  const home = realpathSync(dataFolder.file('postgres'))
  const [cluster, copy] = [join(home, 'cluster'), join(home, 'copy')]
  copyFolder(cluster, copy)
  return () => {
    rmSync(cluster, { recursive: true })
    copyFolder(copy, cluster)
  }
}

async function openStandby(primary: Served, { dataFolder, password }: Files) {
  await using cleanup = new AsyncDisposableStack()
  const own = cleanup.use(await openDataFolder())
  const cluster = join(own.file('postgres'), 'cluster')
  mkdirSync(own.file('postgres'))
  await primary.stop()
  copyFolder(join(realpathSync(dataFolder.file('postgres')), 'cluster'), cluster)
  await primary.start()
  writeFileSync(join(cluster, 'standby.signal'), '')
  const conninfo = `host=127.0.0.1 port=${primary.port} user=postgres password=${password}`
  writeFileSync(join(cluster, 'postgresql.auto.conf'), `primary_conninfo = '${conninfo}'\n`)
  const [port = 0] = await findFreePorts(1)
  const standby = await serve({ dataFolder: own, port, password })
  cleanup.defer(() => standby.stop())
  const moved = cleanup.move()
  return { ...standby, [Symbol.asyncDispose]: () => moved.disposeAsync() }
}

/** With owners and modes: PostgreSQL may run as another user than the tests. */
const copyFolder = (from: string, to: string) => execFileSync('cp', ['-a', from, to])

/** Runs what is in the folder. */
async function serve({ dataFolder, port, password }: Files & { port: number }) {
  const start = () => startPostgres({ dataFolder, port, password, durable: false })
  let running = await start()
  return {
    port,
    url: (database: string) => running.url(database),
    stop: () => running.stop(),
    start: async () => void (running = await start()),
    /** As a crash: what is in memory is lost, what was written is not. */
    async crash() {
      running.kill('SIGKILL')
      await running.exited
    },
    place: placeAt(running.url('sluice_write')),
  }
}

/** The roles' addresses of a database that `openServer` migrated, or of a copy of it. */
export function placeAt(superuserUrl: string): OutboxPlace {
  return {
    superuserUrl,
    relayUrl: asRole(superuserUrl, 'sluice_relay', passwords.sluice_relay),
    cdcUrl: asRole(superuserUrl, 'sluice_cdc', passwords.sluice_cdc),
  }
}
