import { once } from 'node:events'
import { type AddressInfo, connect as connectTo, createServer, type Socket } from 'node:net'
import { listConnectors, remove } from 'connect/connector'
import { testConnect } from 'local-stack/test-connect'
import { waitUntil } from 'local-stack/wait-until'
import { connect, type TestOutbox } from '../test-outbox.ts'

// The connectors and slots of one test's database, seen and touched as a person would.

export type TestConnector = Awaited<ReturnType<typeof testConnector>>

export async function testConnector(outbox: Pick<TestOutbox, 'superuserUrl'>) {
  const url = await testConnect()
  await using cleanup = new AsyncDisposableStack()
  // A connection for each statement: a test may stop its server, or put another in its place.
  const rowsOf = async (text: string) => {
    await using superuser = await connect(outbox.superuserUrl)
    return (await superuser.client.query<string[]>({ text, rowMode: 'array' })).rows
  }
  const value = async (text: string) => String((await rowsOf(text))[0]?.[0])
  const oid = await value('select oid from pg_database where datname = current_database()')
  const connectors = async () =>
    (await listConnectors({ url }, 'sluice-outbox-')).filter((name) => name.includes(`-${oid}-`))
  const slots = async () => {
    const text = `select slot_name from pg_replication_slots where database = current_database()`
    return (await rowsOf(text)).map(([name = '']) => name)
  }
  const dropSlots = () =>
    waitUntil(
      async () => {
        await rowsOf(`select pg_terminate_backend(active_pid) from pg_replication_slots
          where database = current_database() and active_pid is not null`)
        await rowsOf(`select pg_drop_replication_slot(slot_name) from pg_replication_slots
          where database = current_database()`)
        return (await slots()).length === 0
      },
      { what: 'the end of the slots' },
    )
  cleanup.defer(async () => void (await dropSlots()))
  cleanup.defer(async () => {
    for (const name of await connectors()) await remove({ url }, name)
  })
  const kept = cleanup.move()
  return {
    url,
    connectors,
    slots,
    dropSlots,
    value,
    sql: async (text: string) => void (await rowsOf(text)),
    /** A request that the connector's client has no word for. */
    put: async (path: string) => void (await fetch(`${url}${path}`, { method: 'PUT' })),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

/** A way to the worker that can be closed and opened. */
export async function openDoor(target: string) {
  const sockets = new Set<Socket>()
  let open = true
  const server = createServer((near) => {
    if (!open) {
      near.destroy()
      return
    }
    const far = connectTo(Number(new URL(target).port), '127.0.0.1')
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.on('error', () => to.destroy()).on('close', () => to.destroy())
      from.pipe(to)
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = () => sockets.forEach((socket) => socket.destroy())
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    open: () => void (open = true),
    close() {
      open = false
      cut()
    },
    async [Symbol.asyncDispose]() {
      cut()
      server.close()
      await once(server, 'close')
    },
  }
}
