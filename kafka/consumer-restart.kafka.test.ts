import { findFreePorts, findJava, openDataFolder, startKafka } from 'local-stack'
import { ensureTestJars } from 'local-stack/test-servers'
import { expect, test, vi } from 'vitest'
import { type ConsumedBatch, runConsumer } from './consumer.ts'
import { openProducer } from './producer.ts'
import { createTopic } from './test-topics.ts'

// A broker of its own: the one that tests share must not be killed.
const java = findJava(process.env)

test.skipIf('missing' in java)(
  'a broker that is killed or falls silent, and comes back, is consumed on from the stored offsets',
  async () => {
    if ('missing' in java) return
    await using folder = await openDataFolder()
    const [port = 0, controllerPort = 0] = await findFreePorts(2)
    const settings = {
      dataFolder: folder,
      jars: await ensureTestJars(),
      java: java.java,
      port,
      controllerPort,
      // A killed broker is let back in only when its old session has run out.
      properties: {
        'broker.session.timeout.ms': 1_500,
        'broker.heartbeat.interval.ms': 300,
        'group.min.session.timeout.ms': 1_000,
      },
      heapMb: 256,
    }
    let broker = await startKafka(settings)
    await using cleanup = new AsyncDisposableStack()
    cleanup.defer(() => broker.stop())
    const { brokers } = broker
    await createTopic(brokers, 'restart', 3)
    const stored = new Map<number, bigint>()
    const applied: string[] = []
    const control = new AbortController()
    const restarts: string[] = []
    const running = runConsumer({
      brokers,
      groupId: 'restart',
      topic: 'restart',
      signal: control.signal,
      sessionTimeoutMs: 2_000,
      heartbeatIntervalMs: 300,
      // How long a broker takes to come back is the machine's matter.
      restartLimit: 200,
      backoff: { firstMs: 100, capMs: 1_000 },
      onRestart: ({ error }) => void restarts.push(String(error)),
      onAssigned: async (partitions) =>
        new Map(partitions.map((partition) => [partition, stored.get(partition) ?? 0n])),
      onBatch: async ({ partition, fetchOffset, records }: ConsumedBatch) => {
        const wanted = stored.get(partition) ?? 0n
        if (fetchOffset !== wanted) return { seek: wanted }
        applied.push(...records.map(({ value }) => String(value)))
        const next = records.at(-1)!.offset + 1n
        stored.set(partition, next)
        return { next }
      },
    })
    cleanup.defer(async () => {
      control.abort()
      await running
    })
    const publish = async (from: number) => {
      await using producer = openProducer({ brokers, clientId: 'restart-test' })
      const records = Array.from({ length: 300 }, (_, index) => {
        const value = String(from + index)
        return { topic: 'restart', key: `key-${index % 20}`, value, headers: [] }
      })
      await producer.publish(records, AbortSignal.timeout(60_000))
    }
    const distinct = (count: number) =>
      vi.waitUntil(() => new Set(applied).size === count, { timeout: 60_000, interval: 20 })
    await publish(0)
    await distinct(300)
    broker.kill('SIGKILL')
    await broker.exited
    await vi.waitUntil(() => restarts.length > 0, { timeout: 30_000, interval: 20 })
    broker = await startKafka(settings)
    await publish(1_000)
    await distinct(600)
    restarts.length = 0
    broker.kill('SIGSTOP')
    try {
      await vi.waitUntil(() => restarts.length > 0, { timeout: 15_000, interval: 20 })
    } finally {
      broker.kill('SIGCONT')
    }
    expect(restarts[0]).toContain('neither the group nor the log was heard of')
    await publish(2_000)
    await distinct(900)
    expect(applied.filter((value, index) => applied.indexOf(value) !== index)).toEqual([])
  },
  180_000,
)
