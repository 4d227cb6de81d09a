import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A Connect that says yes to everything, runs nothing, and remembers what it was asked. */
export async function willingConnect() {
  const asked: string[] = []
  const server = createServer((request, response) => {
    const { method, url = '' } = request
    asked.push(`${method} ${url}`)
    const stopped = { name: 'c', connector: { state: 'STOPPED', worker_id: 'w' }, tasks: [] }
    const listed = method === 'GET' && url.endsWith('/connectors') ? [] : {}
    const body = url.endsWith('/status') ? stopped : listed
    response.setHeader('Content-Type', 'application/json')
    request.resume().on('end', () => response.end(JSON.stringify(body)))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    asked,
    /** What its topics take, and so what a connector of it may send. */
    limitBytes: async () => 1_048_576,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
