import { randomBytes } from 'node:crypto'
import { ensureDatabase, findFreePorts, openDataFolder, startPostgres } from 'local-stack'
import { migrate } from 'migrations/migrate'

export type OwnServer = Awaited<ReturnType<typeof ownServer>>

/** A migrated PostgreSQL of the test's own: for what is set, stopped or killed server-wide. */
export async function ownServer(settings: Record<string, string | number> = {}) {
  await using cleanup = new AsyncDisposableStack()
  const dataFolder = cleanup.use(await openDataFolder())
  const [port = 0] = await findFreePorts(1)
  const password = randomBytes(8).toString('hex')
  const start = () => startPostgres({ dataFolder, port, password, settings, durable: false })
  let server = await start()
  cleanup.defer(() => server.stop())
  const [url, readUrl] = [server.url('sluice_write'), server.url('sluice_read')]
  await ensureDatabase(server.url(), 'sluice_write')
  await ensureDatabase(server.url(), 'sluice_read')
  await migrate({ writeUrl: url, readUrl, brokers: [], passwords: {}, report: () => {} })
  const kept = cleanup.move()
  return {
    /** The superuser's, to the write database. */
    url,
    port,
    /** The end of the server's own log. */
    logTail: () => server.logTail(),
    /** As `pg_ctl stop -m fast` does it; how long it took, in milliseconds. */
    async stopFast(): Promise<number> {
      const begunMs = performance.now()
      server.kill('SIGINT')
      await server.exited
      return performance.now() - begunMs
    },
    async startAgain(): Promise<void> {
      server = await start()
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}
