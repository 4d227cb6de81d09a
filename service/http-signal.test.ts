import { once } from 'node:events'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { openToAll } from './access.ts'
import { type HttpService, serveHttp } from './http.ts'
import { openLog } from './log.ts'
import { openMetrics } from './metrics.ts'

let http: HttpService
const signals: AbortSignal[] = []

beforeAll(async () => {
  http = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    access: openToAll,
    readiness: async () => [],
    log: openLog('test', 'fatal'),
    metrics: openMetrics('test'),
    routes: [
      {
        method: 'GET',
        path: '/wait',
        async handle({ signal, query }) {
          signals.push(signal)
          if (query.long !== undefined) await once(signal, 'abort')
          return { status: 200, body: {} }
        },
      },
    ],
  })
})
afterAll(() => http[Symbol.asyncDispose]())

test("a request's signal aborts when its caller hangs up", async () => {
  const socket = connect(http.port, '127.0.0.1')
  socket.write('GET /wait?long=1 HTTP/1.1\r\nHost: test\r\n\r\n')
  const signal = await vi.waitUntil(() => signals.at(-1))
  expect(signal.aborted).toBe(false)
  socket.destroy()
  await vi.waitUntil(() => signal.aborted)
})

test('it does not when the answer was sent, and the connection is closed after that', async () => {
  const socket = connect(http.port, '127.0.0.1').resume()
  socket.write('GET /wait HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n')
  const before = signals.length
  await once(socket, 'close')
  expect(signals).toHaveLength(before + 1)
  expect(signals.at(-1)?.aborted).toBe(false)
})
