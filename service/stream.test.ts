import { once } from 'node:events'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { openToAll } from './access.ts'
import { type HttpService, serveHttp } from './http.ts'
import { openLog } from './log.ts'
import { openMetrics } from './metrics.ts'

const large = 'x'.repeat(100_000)
let http: HttpService
let given = 0
let ended = 0

/** As many pieces as are taken, for as long as its reader is there. */
async function* endless(signal: AbortSignal, piece: string) {
  try {
    while (!signal.aborted) {
      given += 1
      yield piece
    }
  } finally {
    ended += 1
  }
}

async function* waiting(signal: AbortSignal) {
  yield 'first\n'
  await once(signal, 'abort')
  ended += 1
}

async function* failing() {
  yield 'first\n'
  throw new Error('in the middle')
}

beforeAll(async () => {
  http = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    access: openToAll,
    readiness: async () => [],
    log: openLog('test', 'fatal'),
    metrics: openMetrics('test'),
    stallMs: 200,
    routes: [
      {
        method: 'GET',
        path: '/:kind',
        handle({ params, signal }) {
          const streams = { endless: () => endless(signal, large), waiting: () => waiting(signal) }
          const open = streams[params.kind as keyof typeof streams] ?? failing
          return { status: 200, contentType: 'text/plain', stream: open() }
        },
      },
    ],
  })
})
afterAll(() => http[Symbol.asyncDispose]())

const ask = (path: string, method = 'GET') => {
  const socket = connect(http.port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(`${method} ${path} HTTP/1.1\r\nHost: test\r\n\r\n`)
  return socket
}

test('a reader that does not read is cut, and what waits for it stays bounded', async () => {
  const before = { given, ended }
  const socket = ask('/endless')
  socket.pause()
  await vi.waitUntil(() => ended > before.ended)
  // What the system's own buffers took, and a piece more: some megabytes, not all there is.
  const taken = given - before.given
  expect(taken).toBeGreaterThan(0)
  expect(taken * large.length).toBeLessThan(20_000_000)
  socket.destroy()
})

test('a reader that reads slowly, but does, goes on for longer than the stall', async () => {
  const before = ended
  const socket = ask('/endless')
  let bytes = 0
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    socket.pause()
    setTimeout(() => socket.resume(), 5)
  })
  await vi.waitUntil(() => bytes > 10_000_000, { timeout: 20_000 })
  expect(ended).toBe(before)
  socket.destroy()
  await vi.waitUntil(() => ended > before)
})

test('a stream that waits ends when its reader hangs up', async () => {
  const before = ended
  const socket = ask('/waiting')
  await once(socket, 'data')
  socket.destroy()
  await vi.waitUntil(() => ended > before)
})

test('a fault in the middle cuts the stream, so that it is not taken for a whole one', async () => {
  const response = await fetch(`${http.url}/failing`)
  expect(response.status).toBe(200)
  await expect(response.text()).rejects.toThrow('terminated')
  expect((await fetch(`${http.url}/livez`)).status).toBe(200)
})

test('HEAD is answered the head, and nothing is left running', async () => {
  const before = ended
  const response = await fetch(`${http.url}/endless`, { method: 'HEAD' })
  expect(response.headers.get('content-type')).toBe('text/plain')
  expect(await response.text()).toBe('')
  expect(ended).toBe(before + 1)
})
