import { randomUUID } from 'node:crypto'
import { ensureTopics } from 'kafka/admin'
import { dumpTopic } from 'kafka/topic-dump'
import { testBrokers } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type TestOutbox, testOutbox } from '../test-outbox.ts'
import { type RelayProcess, startRelay } from '../test-relay.ts'
import { topicOf } from '../wire.ts'

const brokers = testBrokers()
let outbox: TestOutbox
let aggregateType: string
let topic: string

beforeEach(async () => {
  outbox = await testOutbox()
  aggregateType = `wal-${randomUUID()}`
  topic = topicOf(aggregateType)
  const report = () => {}
  await ensureTopics({ brokers, topics: [{ name: topic, partitions: 3, settings: {} }], report })
})
afterEach(() => outbox[Symbol.asyncDispose]())

const walRelay = (environment: Record<string, string> = {}) =>
  startRelay({
    WRITE_DATABASE_URL: outbox.relayUrl,
    CDC_DATABASE_URL: outbox.cdcUrl,
    KAFKA_BROKERS: brokers.join(','),
    RELAY_LEASE_MS: '1500',
    RELAY_MODE: 'wal',
    ...environment,
  })

const streaming = (relay: RelayProcess) =>
  waitUntil(async () => (await relay.status()).source === 'wal', {
    what: 'the stream to take over',
    deadlineMs: 20_000,
  })

const drained = (relay: RelayProcess, next: bigint) =>
  waitUntil(
    async () => {
      const status = await relay.status()
      return status.backlog === 0 && status.gaps === 0 && BigInt(status.next) >= next
    },
    { what: 'everything to be published', deadlineMs: 20_000 },
  )

test('rows before and after the handover arrive once each, and progress follows', async () => {
  await using writer = await outbox.writer()
  await writer.insert({ aggregateType, aggregateId: 'a', version: 1 })
  await using relay = await walRelay()
  await streaming(relay)
  await writer.insert(
    { aggregateType, aggregateId: 'a', version: 2 },
    { aggregateType, aggregateId: 'b', version: 1 },
  )
  await writer.sql('begin')
  await writer.insert({ aggregateType, aggregateId: 'c', version: 1 })
  await writer.sql('rollback')
  const [last = 0n] = await writer.insert({ aggregateType, aggregateId: 'a', version: 3 })
  await drained(relay, last + 1n)
  const dump = await dumpTopic(brokers, topic)
  expect(dump.map(({ key, headers }) => `${key} ${headers[2]?.[1]}`).toSorted()).toEqual([
    'a 1',
    'a 2',
    'a 3',
    'b 1',
  ])
  expect((await relay.stop('SIGTERM')).code).toBe(0)
})
