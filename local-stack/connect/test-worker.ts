// One Kafka Connect for a whole test run, started by the first test that asks: it takes half a
// gigabyte and five seconds. Tests run in processes of their own, so they ask by HTTP.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { cacheFolder } from '../config.ts'
import type { DataFolder } from '../data-folder.ts'
import { StackError } from '../errors.ts'
import { ensureJars } from '../kafka/jars.ts'
import { findJava } from '../kafka/java.ts'
import { findFreePorts } from '../processes/ports.ts'
import { connectJars, startConnect } from './connect.ts'

export type WorkerOffer = {
  brokers: string[]
  openFolder: () => Promise<DataFolder>
  /** What is started is stopped by it. */
  cleanup: AsyncDisposableStack
}

/** Where to ask: a GET answers, once there is one, with the worker's address or what went wrong. */
export async function offerTestWorker(offer: WorkerOffer): Promise<string> {
  let worker: Promise<string> | undefined
  const server = createServer((_request, response) => {
    worker ??= startTestWorker(offer)
    worker.then(
      (url) => response.end(url),
      (error: Error) => response.writeHead(500).end(error.message),
    )
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  offer.cleanup.defer(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function startTestWorker({ brokers, openFolder, cleanup }: WorkerOffer): Promise<string> {
  const given = process.env.TEST_CONNECT_URL
  if (given !== undefined) return given
  const found = findJava(process.env)
  if ('missing' in found) {
    throw new StackError(
      'java_missing',
      `Kafka Connect needs Java 17 or newer: ${found.missing}; or set TEST_CONNECT_URL`,
    )
  }
  const jars = await ensureJars({
    set: connectJars,
    cacheFolder: cacheFolder(process.env),
    environment: process.env,
    progress: () => {},
  })
  const [port = 0] = await findFreePorts(1)
  const worker = await startConnect({
    dataFolder: await openFolder(),
    jars,
    java: found.java,
    brokers,
    port,
    // The Kafka may be one that other runs use too.
    group: `test-connect-${randomBytes(4).toString('hex')}`,
    heapMb: 512,
    quickStart: true,
  })
  cleanup.defer(worker.stop)
  return worker.url
}
