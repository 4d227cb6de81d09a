// Two real brokers in one cluster, for what only shows where there are several leaders.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { type DataFolder, findFreePorts, type Kafka, openDataFolder, startKafka } from 'local-stack'
import type { Admin } from 'kafkajs'
import { ensureTestJars } from 'local-stack/test-servers'
import { waitUntil } from 'local-stack/wait-until'
import { kafkaClient } from './client.ts'

export type TestCluster = {
  /** Both brokers' addresses; 1 is the controller too. */
  brokers: string[]
  second(): Kafka
  /** Starts the second again, after a kill. */
  restartSecond(): Promise<void>
  /** One partition per entry: the broker, 1 or 2, that holds and leads it. */
  createTopic(topic: string, holders: readonly number[]): Promise<void>
  /** Moves each partition to another broker, and waits until it is led there. */
  moveTopic(topic: string, holders: readonly number[]): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export async function startTestCluster(java: string): Promise<TestCluster> {
  await using cleanup = new AsyncDisposableStack()
  const jars = await ensureTestJars()
  const [port1 = 0, port2 = 0, controllerPort = 0, unusedPort = 0] = await findFreePorts(4)
  const timing = {
    // A killed broker is let back in only when its old session has run out.
    'broker.session.timeout.ms': 2_000,
    'broker.heartbeat.interval.ms': 300,
    // A producer that is quiet this long is forgotten.
    'producer.id.expiration.ms': 2_000,
    'producer.id.expiration.check.interval.ms': 200,
  }
  const common = { jars, java, heapMb: 256, quickStart: true }
  const folder1 = cleanup.use(await openDataFolder())
  const first = await startKafka({
    ...common,
    dataFolder: folder1,
    port: port1,
    controllerPort,
    properties: timing,
  })
  cleanup.defer(() => first.stop())
  const folder2 = cleanup.use(await openDataFolder())
  joinCluster(folder1, folder2)
  const properties = {
    ...timing,
    'process.roles': 'broker',
    'node.id': 2,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    listeners: `PLAINTEXT://127.0.0.1:${port2}`,
  }
  const startSecond = () =>
    startKafka({
      ...common,
      dataFolder: folder2,
      port: port2,
      controllerPort: unusedPort,
      properties,
    })
  let second = await startSecond()
  cleanup.defer(() => second.stop())
  const brokers = [...first.brokers, ...second.brokers]
  const admin = cleanup.adopt(
    kafkaClient({ brokers: first.brokers, clientId: 'test-cluster' }).admin(),
    (each) => each.disconnect(),
  )
  await admin.connect()
  const both = async () => (await admin.describeCluster()).brokers.length === 2
  await waitUntil(both, { what: 'the second broker to join', deadlineMs: 60_000 })
  const stack = cleanup.move()
  return {
    brokers,
    second: () => second,
    restartSecond: async () => void (second = await startSecond()),
    ...topicsOf(admin),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

function topicsOf(admin: Admin): Pick<TestCluster, 'createTopic' | 'moveTopic'> {
  const assigned = (holders: readonly number[]) =>
    holders.map((holder, partition) => ({ partition, replicas: [holder] }))
  const led = async (topic: string, holders: readonly number[]) => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    return topics[0]?.partitions.every(({ partitionId, leader }) => leader === holders[partitionId])
  }
  const isLed = (topic: string, holders: readonly number[]) =>
    waitUntil(() => led(topic, holders), { what: 'the leaders to be these', deadlineMs: 60_000 })
  return {
    async createTopic(topic, holders) {
      await admin.createTopics({ topics: [{ topic, replicaAssignment: assigned(holders) }] })
      await isLed(topic, holders)
    },
    async moveTopic(topic, holders) {
      const topics = [{ topic, partitionAssignment: assigned(holders) }]
      await admin.alterPartitionReassignments({ topics })
      await isLed(topic, holders)
    },
  }
}

/** Writes the second storage as if it had been formatted for the first one's cluster. */
function joinCluster(first: DataFolder, second: DataFolder): void {
  const formatted = readFileSync(first.file('kafka', 'storage', 'meta.properties'), 'utf8')
  const cluster = /^cluster\.id=.*$/m.exec(formatted)?.[0]
  const file = second.file('kafka', 'storage', 'meta.properties')
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `version=1\nnode.id=2\n${cluster}\n`)
}
