import { connect, createServer, type Socket } from 'node:net'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensureTopics } from 'kafka/admin'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openDataFolder } from '../data-folder.ts'
import { findFreePorts } from '../processes/ports.ts'
import { ensureTestJars } from '../test-servers.ts'
import { brokerAnswers } from './broker-answers.ts'
import { startKafka, type Kafka, type KafkaOptions } from './kafka.ts'

let parent: string
let cleanup: AsyncDisposableStack
let ports: { port: number; controllerPort: number }
beforeEach(async () => {
  parent = mkdtempSync(join(tmpdir(), 'sluice-kafka-'))
  const [port = 0, controllerPort = 0] = await findFreePorts(2)
  ports = { port, controllerPort }
  cleanup = new AsyncDisposableStack()
  cleanup.defer(() => rmSync(parent, { recursive: true }))
})
afterEach(() => cleanup.disposeAsync())

const openFolder = () => openDataFolder(join(parent, 'data'))

async function start(options: Pick<KafkaOptions, 'dataFolder'> & Partial<KafkaOptions>) {
  const jars = await ensureTestJars()
  const kafka = await startKafka({
    jars,
    java: 'java',
    heapMb: 256,
    quickStart: true,
    ...ports,
    ...options,
  })
  cleanup.defer(() => kafka.stop())
  return kafka
}

/** Makes the topic where it is missing; says what was done. */
async function ensureTopic({ brokers }: Pick<Kafka, 'brokers'>): Promise<string[]> {
  const done: string[] = []
  const topics = [{ name: 'kept', partitions: 3, settings: {} }]
  await ensureTopics({ brokers, topics, report: (line) => done.push(line) })
  return done
}

test('topics survive a stop, a kill -9, and a start on other ports', async () => {
  const dataFolder = cleanup.use(await openFolder())
  const first = await start({ dataFolder })
  expect(first.created).toBe(true)
  expect(await ensureTopic(first)).toHaveLength(1)
  await first.stop()
  expect(await brokerAnswers(ports.port)).toBe(false)

  const second = await start({ dataFolder })
  expect(second.created).toBe(false)
  expect(await ensureTopic(second)).toEqual([])
  second.kill('SIGKILL')
  expect(await second.exited).toEqual({ code: null, signal: 'SIGKILL' })

  const [port = 0, controllerPort = 0] = await findFreePorts(2)
  expect(await ensureTopic(await start({ dataFolder, port, controllerPort }))).toEqual([])
}, 60_000)

test('one that was left running is stopped by the next start of its folder', async () => {
  const left = await openFolder()
  const orphan = await start({ dataFolder: left })
  await left[Symbol.asyncDispose]()
  const dataFolder = cleanup.use(await openFolder())
  expect(dataFolder.orphans).toEqual(['kafka'])
  // A broker that is told to stop says goodbye; one that is killed does not.
  expect((await orphan.exited).signal).not.toBe('SIGKILL')
  expect((await start({ dataFolder })).created).toBe(false)
}, 60_000)

test('clients go through the advertised port, so a proxy there sees all of their traffic', async () => {
  const sockets = new Set<Socket>()
  const proxy = createServer((client) => {
    const broker = connect(ports.port, '127.0.0.1')
    for (const socket of [client, broker]) {
      sockets.add(socket)
      socket.on('error', () => {})
    }
    client.pipe(broker).pipe(client)
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  cleanup.defer(() => {
    proxy.close()
    for (const socket of sockets) socket.destroy()
  })
  const advertisedPort = (proxy.address() as { port: number }).port
  const dataFolder = cleanup.use(await openFolder())
  const kafka = await start({ dataFolder, advertisedPort })
  expect(kafka.brokers).toEqual([`127.0.0.1:${advertisedPort}`])
  expect(await ensureTopic(kafka)).toHaveLength(1)
  expect(sockets.size).toBeGreaterThan(0)
}, 60_000)

test('a broker that is there already is not taken for the one that was started', async () => {
  const other = createServer().listen(ports.port, '127.0.0.1')
  await once(other, 'listening')
  cleanup.defer(() => void other.close())
  const dataFolder = cleanup.use(await openFolder())
  await expect(start({ dataFolder })).rejects.toMatchObject({ code: 'ports_taken' })
})

test('a failed start says so with the end of the log', async () => {
  const dataFolder = cleanup.use(await openFolder())
  const refusal = start({ dataFolder, properties: { 'num.io.threads': 'many' } })
  await expect(refusal).rejects.toMatchObject({
    code: 'kafka_start_failed',
    message: expect.stringMatching(/Invalid value many/),
  })
  expect(readFileSync(dataFolder.file('processes.json'), 'utf8')).toBe('[]')
}, 60_000)
