import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/**
 * A TCP wire to a database, for tests. Gone silent, its connections carry nothing ever again and new
 * ones work; frozen, none carries anything, new ones included, until it is thawed: the database hangs.
 */
export async function openWire(url: string) {
  const target = new URL(url)
  const port = Number(target.port)
  const sockets = new Set<Socket>()
  let silent = new Set<Socket>()
  let frozen = false
  const server = createServer((client) => {
    const upstream = connect(port, target.hostname)
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from)
      from.on('error', () => to.destroy())
      from.on('close', () => to.destroy())
      from.on('data', (bytes) => {
        if (!silent.has(from)) to.write(bytes)
      })
      if (frozen) from.pause()
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  target.port = String((server.address() as AddressInfo).port)
  return {
    url: target.href,
    goSilent: () => (silent = new Set(sockets)),
    freeze() {
      frozen = true
      for (const socket of sockets) socket.pause()
    },
    thaw() {
      frozen = false
      for (const socket of sockets) socket.resume()
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
