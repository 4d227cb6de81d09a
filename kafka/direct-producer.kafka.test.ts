import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { testBrokers } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { pause } from 'service/backoff'
import { describe, expect, test } from 'vitest'
import {
  clusterConformance,
  goesOnAfterExpiry,
  onTestCluster,
  publishesNothingOnceDisposed,
  survivesMovedLeaders,
} from './cluster-conformance.ts'
import { openDirectProducer } from './direct-producer.ts'
import { kafkaRules } from './direct-sender.ts'
import {
  keepsEachOfManyLikeBatches,
  keepsOrderOverManyRequests,
  type OpenProducer,
  producerConformance,
} from './producer-conformance.ts'
import type { FailedAttempt, KafkaRecord } from './producer.ts'

const open: OpenProducer = (settings) => openDirectProducer(settings)
producerConformance(open)

describe('a producer that is wrong is found out', () => {
  test('one that gives a sequence number twice', async () => {
    const rules = { ...kafkaRules, nextSequence: (first: number) => first }
    const wrong: OpenProducer = (settings) => openDirectProducer(settings, rules)
    await expect(keepsEachOfManyLikeBatches(wrong)).rejects.toThrow(/to have a length of 30/)
  })
})

onTestCluster((cluster) => {
  clusterConformance(open, cluster)

  test('one that takes every answer for a yes is found out', async () => {
    const rules = { ...kafkaRules, requireConfirmed: () => {} }
    const wrong: OpenProducer = (settings) => openDirectProducer(settings, rules)
    await expect(survivesMovedLeaders(wrong, cluster())).rejects.toThrow(/to deeply equal/)
  }, 180_000)

  test('one that loses all that it is given after a while is found out', async () => {
    await expect(goesOnAfterExpiry(silentlyFull(200), cluster())).rejects.toThrow(/to deeply equal/)
  }, 60_000)

  test('one that repeats its last batch after it was disposed of is found out', async () => {
    await using cleanup = new AsyncDisposableStack()
    const wrong = repeatingOnceDisposed(cleanup)
    await expect(publishesNothingOnceDisposed(wrong, cluster())).rejects.toThrow(/to have a length/)
  }, 60_000)
})

/** Says yes to all, and drops what comes after the first `limit` records. */
function silentlyFull(limit: number): OpenProducer {
  return (settings) => {
    const producer = openDirectProducer(settings)
    let taken = 0
    return {
      async publish(records, signal) {
        taken += records.length
        if (taken <= limit) await producer.publish(records, signal)
      },
      [Symbol.asyncDispose]: () => producer[Symbol.asyncDispose](),
    }
  }
}

/** Ends its caller's publish when it is disposed of, but sends on, until `cleanup` is. */
function repeatingOnceDisposed(cleanup: AsyncDisposableStack): OpenProducer {
  return (settings) => {
    const producer = cleanup.use(openDirectProducer(settings))
    const disposed = new AbortController()
    const stop = new AbortController()
    let sending = Promise.resolve()
    let last: readonly KafkaRecord[] = []
    const repeat = async () => {
      await sending.catch(() => {})
      while (!stop.signal.aborted) {
        await producer.publish(last, AbortSignal.timeout(60_000))
        await pause(50, stop.signal)
      }
    }
    return {
      publish(records, signal) {
        last = records
        sending = producer.publish(records, AbortSignal.any([signal, disposed.signal]))
        return sending
      },
      async [Symbol.asyncDispose]() {
        disposed.abort(new Error('the producer was closed'))
        const repeating = repeat()
        cleanup.defer(async () => {
          stop.abort()
          await repeating
        })
      },
    }
  }
}

/** Takes connections and bytes, and never says a word. */
async function startSilentServer() {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    socket.resume()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  return {
    address: `127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

test('a broker that takes connections and never answers is given up, again and again', async () => {
  await using silent = await startSilentServer()
  const failed: FailedAttempt[] = []
  await using producer = openDirectProducer({
    brokers: [silent.address],
    clientId: 'conformance',
    requestTimeoutMs: 200,
    onFailedAttempt: (attempt) => void failed.push(attempt),
  })
  const stop = new AbortController()
  const records = [{ topic: 'any', key: 'k', value: 'v', headers: [] }]
  const publishing = producer.publish(records, stop.signal).catch((error: unknown) => error)
  await waitUntil(() => failed.length >= 3, { what: 'three failures', deadlineMs: 20_000 })
  stop.abort(new Error('enough'))
  expect(await publishing).toBe(stop.signal.reason)
  expect(failed[0]?.error).toMatchObject({
    code: 'kafka_unreachable',
    cause: { code: 'broker_silent' },
  })
})

test('one silent address among those given does not stop it', async () => {
  await using silent = await startSilentServer()
  const brokers = [silent.address, ...testBrokers()]
  const settings = { requestTimeoutMs: 2_000 }
  await keepsOrderOverManyRequests((given) =>
    openDirectProducer({ ...given, ...settings, brokers }),
  )
})
