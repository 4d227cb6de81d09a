import { randomBytes } from 'node:crypto'
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

export type TestServer = Awaited<ReturnType<typeof openServer>>

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
  return { ...server, dataFolder, password, [Symbol.asyncDispose]: () => moved.disposeAsync() }
}

export type ServerPlace = { dataFolder: DataFolder; port: number; password: string }

/** Runs what is in the folder. */
export async function serve({ dataFolder, port, password }: ServerPlace) {
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
