import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

// A wire to a database that is cut at the one moment that matters: while a transaction commits.

/**
 * Where it is cut: `before`, so that the commit never arrives; `after`, so that it does and its answer
 * is lost; `late`, so that the caller knows of the cut while its transaction still has its locks, and
 * commits afterwards all the same.
 */
export const places = ['before', 'after', 'late'] as const
export type Place = (typeof places)[number]

const lateMs = 150

/** `cut` is asked at each commit, and says where to cut or null. */
export async function openCommitWire(databaseUrl: string, cut: () => Place | null) {
  const target = new URL(databaseUrl)
  const [port, host] = [Number(target.port), target.hostname]
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect(port, host)
    for (const each of [client, upstream]) sockets.add(each.on('error', () => {}))
    let isCut = false
    client.on('data', (bytes: Buffer) => {
      if (isCut) return
      const place = bytes.includes('commit\0') ? cut() : null
      if (place === null) upstream.write(bytes)
      else cutAt(place, bytes)
    })
    const cutAt = (place: Place, bytes: Buffer) => {
      isCut = true
      if (place === 'before') upstream.destroy()
      if (place === 'after') upstream.write(bytes)
      if (place === 'late') setTimeout(() => upstream.write(bytes), lateMs)
      // The server is not told: what it got it finishes.
      if (place !== 'after') client.resetAndDestroy()
    }
    upstream.on('data', (bytes) => {
      if (!isCut) client.write(bytes)
      else if (/COMMIT\0|ROLLBACK\0/.test(bytes.toString('latin1'))) upstream.destroy()
    })
    upstream.on('close', () => client.destroy())
    client.on('close', () => isCut || upstream.destroy())
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  target.port = String((server.address() as AddressInfo).port)
  return {
    url: target.href,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
