import { connectAnswers } from 'connect/connector'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openDataFolder, type DataFolder } from '../data-folder.ts'
import { ensureJars } from '../kafka/jars.ts'
import { cacheFolder } from '../config.ts'
import { findFreePorts } from '../processes/ports.ts'
import { testBrokers } from '../test-databases.ts'
import { connectJars, startConnect, type ConnectOptions } from './connect.ts'

let cleanup: AsyncDisposableStack
let dataFolder: DataFolder
let port: number
beforeEach(async () => {
  cleanup = new AsyncDisposableStack()
  dataFolder = cleanup.use(await openDataFolder())
  port = (await findFreePorts(1))[0] ?? 0
})
afterEach(() => cleanup.disposeAsync())

async function start(options: Partial<ConnectOptions> = {}) {
  const jars = await ensureJars({
    set: connectJars,
    cacheFolder: cacheFolder(process.env),
    environment: process.env,
    progress: () => {},
  })
  const worker = await startConnect({
    dataFolder,
    jars,
    java: 'java',
    brokers: testBrokers(),
    port,
    group: `connect-${port}`,
    heapMb: 256,
    quickStart: true,
    ...options,
  })
  cleanup.defer(worker.stop)
  return worker
}

test('a worker that was killed comes back as itself, and one that is stopped is gone', async () => {
  const first = await start()
  expect(JSON.parse(readFileSync(dataFolder.file('processes.json'), 'utf8'))).toMatchObject([
    { name: 'connect', tier: 'connect', pid: first.pid },
  ])
  first.kill('SIGKILL')
  await first.exited
  const second = await start()
  expect(await connectAnswers({ url: second.url })).toBe(true)
  await second.stop()
  expect((await second.exited).signal).not.toBe('SIGKILL')
  expect(await connectAnswers({ url: second.url })).toBe(false)
}, 90_000)

test('a failed start says so with the end of the log', async () => {
  const refusal = start({ properties: { 'offset.flush.interval.ms': 'often' } })
  await expect(refusal).rejects.toMatchObject({
    code: 'connect_start_failed',
    message: expect.stringMatching(/Invalid value often/),
  })
  expect(readFileSync(dataFolder.file('processes.json'), 'utf8')).toBe('[]')
}, 60_000)

test('who answers on the port already is not taken for the worker', async () => {
  const other = createServer().listen(port, '127.0.0.1')
  await once(other, 'listening')
  cleanup.defer(() => void other.close())
  await expect(start()).rejects.toMatchObject({
    code: 'ports_taken',
    message: expect.stringContaining('CONNECT_PORT'),
  })
})
