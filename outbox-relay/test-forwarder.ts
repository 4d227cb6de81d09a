import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** One address for whichever server is the primary at the moment, as a proxy or a DNS name gives. */
export async function openForwarder(firstPort: number) {
  const sockets = new Set<Socket>()
  let target = firstPort
  const server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1')
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from)
      from.on('error', () => {})
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
    for (const socket of sockets) socket.destroy()
  }
  return {
    port: (server.address() as { port: number }).port,
    /** New connections go there; those that are open are cut. */
    pointTo(port: number) {
      target = port
      cut()
    },
    async [Symbol.asyncDispose]() {
      cut()
      server.close()
      await once(server, 'close')
    },
  }
}
