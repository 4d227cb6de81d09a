import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** A way to a port of this machine on which, from one moment on, nothing comes through any more. */
export async function openProxy(targetPort: number) {
  const sockets = new Set<Socket>()
  let silent = false
  const listener = createServer((client) => {
    const server = connect({ port: targetPort, host: '127.0.0.1', noDelay: true })
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(from)
      if (silent) from.pause()
      from.on('data', (chunk) => {
        if (!to.write(chunk)) from.pause()
      })
      from.on('drain', () => silent || to.resume())
      from.on('error', () => to.destroy())
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const address = listener.address()
  if (address === null || typeof address === 'string') throw new Error('no address')
  return {
    port: address.port,
    /** Every connection stays open, and nothing comes through it: as with a peer that has vanished. */
    silence() {
      silent = true
      for (const socket of sockets) socket.pause()
    },
    /** What was held back comes through. */
    heal() {
      silent = false
      for (const socket of sockets) socket.resume()
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      listener.close()
      await once(listener, 'close')
    },
  }
}

/** The same address by way of another port. */
export function through(url: string, port: number): string {
  return Object.assign(new URL(url), { port: String(port) }).href
}
