import {
  cacheFolder,
  connectJars,
  ensureJars,
  findFreePorts,
  openDataFolder,
  startConnect,
  startKafka,
} from 'local-stack'
import { ensureTopics } from 'kafka/admin'
import { ensureTestJars, testJava } from 'local-stack/test-servers'
import { waitUntil } from 'local-stack/wait-until'
import { describe, expect, test } from 'vitest'
import { known, type TestedMode } from '../test-modes.ts'
import { advances, openStage, sendsBy } from '../test-stage.ts'
import { ownServers } from '../test-server.ts'
import { kept } from '../test-topic.ts'
import { drained } from '../wal/test-wal-relay.ts'

// What is done to a whole Kafka or Kafka Connect, so each test has both of its own.

async function ownWorker() {
  await using cleanup = new AsyncDisposableStack()
  const dataFolder = cleanup.use(await openDataFolder())
  const [port = 0, controllerPort = 0, connectPort = 0] = await findFreePorts(3)
  // A killed broker is let back in only when its old session has run out.
  const properties = { 'broker.session.timeout.ms': 1_500, 'broker.heartbeat.interval.ms': 300 }
  const shared = { dataFolder, java: testJava(), heapMb: 256, quickStart: true }
  const jars = await ensureTestJars()
  const startBroker = () => startKafka({ ...shared, jars, port, controllerPort, properties })
  let broker = await startBroker()
  cleanup.defer(() => broker.stop())
  const { brokers } = broker
  const topics = [{ name: '__debezium-heartbeat.sluice', partitions: 1, settings: {} }]
  await ensureTopics({ brokers, topics, report: () => {} })
  const connectJarsFolder = await ensureJars({
    set: connectJars,
    cacheFolder: cacheFolder(process.env),
    environment: process.env,
    progress: () => {},
  })
  const startWorker = () =>
    startConnect({ ...shared, heapMb: 384, jars: connectJarsFolder, brokers, port: connectPort })
  let worker = await startWorker()
  cleanup.defer(() => worker.stop())
  const mode: TestedMode = {
    ...known.debezium,
    environment: async ({ cdcUrl }) => ({
      RELAY_MODE: 'debezium',
      CDC_DATABASE_URL: cdcUrl,
      CONNECT_URL: worker.url,
    }),
  }
  const moved = cleanup.move()
  return {
    mode,
    brokers,
    async killBroker() {
      broker.kill('SIGKILL')
      await broker.exited
    },
    startBroker: async () => void (broker = await startBroker()),
    async killWorker() {
      worker.kill('SIGKILL')
      await worker.exited
    },
    startWorker: async () => void (worker = await startWorker()),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  }
}

describe.runIf(ownServers)('under a connector that sends,', () => {
  test.each(['broker', 'worker'] as const)(
    'the %s is killed, and back later: told, waited for, and nothing is lost',
    async (what) => {
      await using own = await ownWorker()
      const { mode, brokers } = own
      await using stage = await openStage(mode, { brokers })
      await stage.makeTopic()
      await using relay = await stage.relay({ RELAY_STANDSTILL_MS: '3000' })
      await sendsBy(relay, mode)
      await using writing = await stage.keepWriting(20)
      await advances(relay)
      await (what === 'broker' ? own.killBroker() : own.killWorker())
      const told = async () => {
        const { waitingFor, connector } = await relay.status()
        return waitingFor !== null && (what === 'worker' || connector?.standsStill === true)
      }
      await waitUntil(told, { what: 'it to be told', deadlineMs: 40_000 })
      await (what === 'broker' ? own.startBroker() : own.startWorker())
      await writing.stop()
      await using session = await stage.session()
      await drained(relay, session)
      expect(await stage.findings()).toMatchObject(kept)
      await sendsBy(relay, mode)
      expect((await relay.status()).waitingFor).toBeNull()
    },
    240_000,
  )
})
