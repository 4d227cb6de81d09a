import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { waitUntil } from 'local-stack/wait-until'
import { type NetworkFault, TcpProxy } from './tcp-proxy.ts'

let cleanup: AsyncDisposableStack
let proxy: TcpProxy
let heard: string

beforeEach(async () => {
  cleanup = new AsyncDisposableStack()
  heard = ''
  const sockets = new Set<Socket>()
  const echo = createServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    socket.on('data', (chunk: Buffer) => {
      heard += chunk.toString()
      socket.write(chunk)
    })
  })
  echo.listen(0, '127.0.0.1')
  await once(echo, 'listening')
  cleanup.defer(() => {
    sockets.forEach((each) => each.destroy())
    echo.close()
  })
  proxy = cleanup.use(await TcpProxy.open((echo.address() as { port: number }).port))
})
afterEach(() => cleanup.disposeAsync())

async function client() {
  const socket = connect({ port: proxy.port, host: '127.0.0.1' })
  cleanup.defer(() => void socket.destroy())
  const seen = { socket, answer: '', closed: false, error: '' }
  socket.on('data', (chunk: Buffer) => (seen.answer += chunk.toString()))
  socket.on('close', () => (seen.closed = true))
  socket.on('error', (error: NodeJS.ErrnoException) => (seen.error = error.code ?? ''))
  await once(socket, 'connect')
  return seen
}

async function talking() {
  const one = await client()
  one.socket.write('a')
  await waitUntil(() => one.answer === 'a', { what: 'an echo' })
  return one
}

const quiet = () => new Promise((resolve) => setTimeout(resolve, 60))

test('without a fault everything passes', async () => {
  const one = await talking()
  one.socket.write('b'.repeat(100_000))
  await waitUntil(() => one.answer.length === 100_001, { what: 'all bytes' })
  expect(proxy.requestBytes).toBe(100_001)
})

test('a cut closes what is open and what comes, until it heals', async () => {
  const one = await talking()
  proxy.begin({ kind: 'cut' })
  await waitUntil(() => one.closed, { what: 'the end of the old connection' })
  const two = connect({ port: proxy.port, host: '127.0.0.1' }).on('error', () => {})
  await waitUntil(() => two.destroyed, { what: 'the end of the new connection' })
  proxy.heal()
  await talking()
})

test.each<[NetworkFault, string]>([
  [{ kind: 'half-open' }, 'a'],
  [{ kind: 'answers-dropped' }, 'ab'],
])('%j: the connection stays open and silent, healed or not', async (fault, arrived) => {
  const one = await talking()
  proxy.begin(fault)
  one.socket.write('b')
  await quiet()
  proxy.heal()
  one.socket.write('')
  await quiet()
  expect(one).toMatchObject({ answer: 'a', closed: false })
  expect(heard).toBe(arrived)
  await talking()
})

test('latency and a slow line delay, and lose nothing', async () => {
  const one = await talking()
  for (const fault of [
    { kind: 'latency', delayMs: 100 },
    { kind: 'slow', bytesPerSecond: 100 },
  ] as const) {
    proxy.begin(fault)
    one.answer = ''
    const startedMs = performance.now()
    one.socket.write('0123456789')
    await waitUntil(() => one.answer === '0123456789', { what: 'the answer' })
    expect(performance.now() - startedMs).toBeGreaterThan(190)
    proxy.heal()
  }
})

test('a reset comes in the middle of a message', async () => {
  const one = await talking()
  proxy.begin({ kind: 'reset-mid-frame', afterBytes: 4 })
  one.socket.write('0123456789')
  await waitUntil(() => one.closed, { what: 'the reset' })
  expect(one.error).toBe('ECONNRESET')
  expect('a0123'.startsWith(heard)).toBe(true)
  proxy.heal()
  await talking()
})

test('a slow line is slow for all of its connections together', async () => {
  const [one, two] = [await talking(), await talking()]
  proxy.begin({ kind: 'slow', bytesPerSecond: 100 })
  const startedMs = performance.now()
  for (const each of [one, two]) each.answer = ''
  one.socket.write('0123456789')
  two.socket.write('0123456789')
  await waitUntil(() => one.answer.length + two.answer.length === 20, { what: 'both answers' })
  // 20 bytes at 100 a second take 200 ms one way; the answers come as they do.
  expect(performance.now() - startedMs).toBeGreaterThan(290)
})
