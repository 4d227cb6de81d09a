// What tests do to the projector's surroundings: to its process, and to its way to Postgres.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A way to a database that can be cut; made anew connections are refused until it is mended. */
export async function openTcpProxy(databaseUrl: string) {
  const target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  let isCut = false
  const server = createServer((client) => {
    if (isCut) {
      client.destroy()
      return
    }
    const upstream = connect(Number(target.port), target.hostname)
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from)
      from.on('error', () => to.destroy())
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
      from.pipe(to)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = () => {
    isCut = true
    for (const socket of sockets) socket.destroy()
  }
  const { port } = server.address() as AddressInfo
  return {
    url: Object.assign(new URL(databaseUrl), { host: `127.0.0.1:${port}` }).href,
    cut,
    mend: () => (isCut = false),
    async [Symbol.asyncDispose]() {
      cut()
      server.close()
      await once(server, 'close')
    },
  }
}

/** A projector in a process of its own, slowed to a few hundred events a second. */
const program = `
import { openPool } from 'migrations/database'
import { openLog } from 'service/log'
import { accounts } from './projections/accounts.ts'
import { projectorSessionSettings, runProjector } from './projector.ts'
import { openFeed } from './quarantine/feed.ts'
import { Repairer } from './quarantine/repairer.ts'
import { newStatus } from './status.ts'

const { topic, brokers, url, commandApi } = JSON.parse(process.argv[1])
const projection = {
  ...accounts,
  async apply(transaction, events) {
    const applied = await accounts.apply(transaction, events)
    await transaction.query('select pg_sleep(0.02)')
    return applied
  },
}
const shared = {
  projection,
  pool: openPool({
    url,
    applicationName: 'test',
    maxConnections: 4,
    settings: projectorSessionSettings,
    onError: () => {},
  }),
  status: newStatus('accounts', { topic, groupId: 'killed-' + process.pid + Date.now() }),
  signal: new AbortController().signal,
  log: openLog('query-api', 'fatal'),
}
const repairer = commandApi && new Repairer({ ...shared, feed: openFeed(commandApi) })
await runProjector({ ...shared, brokers, repairer, repairIntervalMs: 50, chunkRecords: 10 })
`

export function spawnProjector(settings: {
  topic: string
  brokers: string[]
  url: string
  /** With the feed it repairs, too. */
  commandApi?: { url: string; key: string }
}) {
  const child = spawn(
    process.execPath,
    ['--input-type=module', '-e', program, JSON.stringify(settings)],
    { cwd: import.meta.dirname, stdio: ['ignore', 'inherit', 'inherit'] },
  )
  const exited = once(child, 'exit')
  return {
    /** As a power cut would: no handler runs. */
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
  }
}
