import { randomUUID } from 'node:crypto'
import { resume } from 'connect/connector'
import { ensureTopics, topicOffsets } from 'kafka/admin'
import { createTopic, deleteTopic } from 'kafka/test-topics'
import { type DumpedRecord, dumpTopic } from 'kafka/topic-dump'
import { testBrokers } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { pause } from 'service/backoff'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type Delivery, violationsOf } from '../test-deliveries.ts'
import { type TestOutbox, testOutbox } from '../test-outbox.ts'
import { type RelayAnswer, type RelayProcess, startRelay } from '../test-relay.ts'
import { topicOf } from '../wire.ts'
import { openDoor, testConnector, type TestConnector } from './test-connector.ts'

const brokers = testBrokers()
const deadlineMs = 40_000
// A connector takes seconds to begin, and a machine that is shared makes them long.
vi.setConfig({ testTimeout: 120_000 })
let outbox: TestOutbox
let connector: TestConnector
let aggregateType: string
let topic: string

beforeEach(async () => {
  outbox = await testOutbox()
  connector = await testConnector(outbox)
  aggregateType = `debezium-${randomUUID()}`
  topic = topicOf(aggregateType)
  await createTopic(brokers, topic, 3)
})
afterEach(async () => {
  await connector[Symbol.asyncDispose]()
  await outbox[Symbol.asyncDispose]()
  await deleteTopic(brokers, topic)
})

const connectorRelay = (environment: Record<string, string> = {}) =>
  startRelay({
    WRITE_DATABASE_URL: outbox.relayUrl,
    CDC_DATABASE_URL: outbox.cdcUrl,
    CONNECT_URL: connector.url,
    KAFKA_BROKERS: brokers.join(','),
    RELAY_LEASE_MS: '1500',
    RELAY_MODE: 'debezium',
    ...environment,
  })

const until = (relay: RelayProcess, what: string, holds: (status: RelayAnswer) => boolean) =>
  waitUntil(
    async () => {
      const status = await relay.status()
      return holds(status) && status
    },
    { what, deadlineMs, intervalMs: 50 },
  )

const taken = (relay: RelayProcess) =>
  until(relay, 'the connector to take over', ({ source }) => source === 'debezium')

const drained = (relay: RelayProcess, last: bigint) =>
  until(relay, 'everything to be published', ({ backlog, gaps, next }) => {
    return backlog === 0 && gaps === 0 && BigInt(next) > last
  })

const deliveries = (dump: readonly DumpedRecord[]): Delivery[] =>
  dump.map(({ key, headers }) => ({
    aggregateId: key,
    version: Number(headers.find(([name]) => name === 'ce_sequence')?.[1]),
  }))

/** Each one's first occurrence; a repeat is allowed, and says nothing of the order. */
function firstOccurrences(all: readonly Delivery[]): Delivery[] {
  const names = all.map(({ aggregateId, version }) => `${aggregateId}@${version}`)
  return all.filter((_, at) => names.indexOf(names[at] ?? '') === at)
}

async function published(): Promise<Delivery[]> {
  return firstOccurrences(deliveries(await dumpTopic(brokers, topic)))
}

async function expectComplete(committed: readonly Delivery[]): Promise<void> {
  expect(violationsOf(committed, await published())).toEqual({
    lost: 0,
    outOfOrder: 0,
    repeated: 0,
    phantom: 0,
  })
}

/** One writer with ten accounts, until it is told to stop. */
async function writeSteadily(): Promise<() => Promise<{ committed: Delivery[]; last: bigint }>> {
  const writer = await outbox.writer()
  const committed: Delivery[] = []
  let last = 0n
  const stopped = new AbortController()
  const { signal } = stopped
  const writing = (async () => {
    for (let version = 1; !signal.aborted; version += 1) {
      for (let account = 0; account < 10 && !signal.aborted; account += 1) {
        const event = { aggregateId: `a-${account}`, version }
        ;[last = 0n] = await writer.insert({ ...event, aggregateType })
        committed.push(event)
      }
      await pause(5, signal)
    }
  })()
  return async () => {
    stopped.abort()
    await writing
    await writer[Symbol.asyncDispose]()
    return { committed, last }
  }
}

test('rows before and after the handover arrive, progress follows, and a stop leaves nothing', async () => {
  await using writer = await outbox.writer()
  await writer.insert({ aggregateType, aggregateId: 'a', version: 1 })
  await using relay = await connectorRelay()
  const { slot } = await taken(relay).then(() =>
    until(relay, 'the slot', (now) => now.slot !== null),
  )
  expect(await connector.slots()).toEqual([slot?.name])
  await writer.insert(
    { aggregateType, aggregateId: 'a', version: 2 },
    { aggregateType, aggregateId: 'b', version: 1 },
  )
  await writer.sql('begin')
  await writer.insert({ aggregateType, aggregateId: 'c', version: 1 })
  await writer.sql('rollback')
  const [last = 0n] = await writer.insert({ aggregateType, aggregateId: 'a', version: 3 })
  const status = await drained(relay, last)
  expect(status.connector).toMatchObject({ state: 'RUNNING', tasks: ['RUNNING'] })
  expect(status.waitingFor).toBeNull()
  await expectComplete([
    ...[1, 2, 3].map((version) => ({ aggregateId: 'a', version })),
    { aggregateId: 'b', version: 1 },
  ])
  expect((await relay.stop('SIGTERM')).code).toBe(0)
  expect(await connector.connectors()).toEqual([])
  expect(await connector.slots()).toEqual([])
})

test('killed with -9 under load, a successor loses nothing and clears away what it left', async () => {
  const finish = await writeSteadily()
  const first = await connectorRelay()
  await taken(first)
  await until(first, 'progress by checkpoints', ({ next }) => BigInt(next) > 100n)
  const [left] = await connector.connectors()
  await first.stop('SIGKILL')
  await using second = await connectorRelay()
  await taken(second)
  const { committed, last } = await finish()
  await drained(second, last)
  await expectComplete(committed)
  const { slot, connector: present } = await second.status()
  expect(await connector.slots()).toEqual([slot?.name])
  expect(await connector.connectors()).toEqual([present?.name])
  expect(present?.name).not.toBe(left)
})

test('a successor that polls clears away what a killed leader left', async () => {
  const first = await connectorRelay()
  await taken(first)
  await first.stop('SIGKILL')
  await connector.sql("update outbox.relay set mode = 'polling'")
  await using second = await connectorRelay()
  const gone = async () =>
    (await connector.connectors()).length === 0 && (await connector.slots()).length === 0
  await waitUntil(gone, { what: 'nothing to be left', deadlineMs })
  expect((await second.status()).source).toBe('polling')
})

test('a transaction that holds up the handover loses nothing, and a stop meanwhile leaves nothing', async () => {
  await using writer = await outbox.writer()
  await writer.sql('begin')
  const [held = 0n] = await writer.insert({ aggregateType, aggregateId: 'a', version: 1 })
  await using first = await connectorRelay()
  await until(first, 'the wait for it', ({ waitingFor }) =>
    /slot is being made/.test(waitingFor ?? ''),
  )
  const stoppedMs = performance.now()
  expect((await first.stop('SIGTERM')).code).toBe(0)
  expect(performance.now() - stoppedMs).toBeLessThan(8_000)
  expect(await connector.slots()).toEqual([])
  await using second = await connectorRelay()
  await until(second, 'the wait for it', ({ waitingFor }) => waitingFor !== null)
  await writer.sql('commit')
  await taken(second)
  await drained(second, held)
  await expectComplete([{ aggregateId: 'a', version: 1 }])
})

test('a slot dropped under it is noticed: polling goes on, until another connector takes over', async () => {
  await using relay = await connectorRelay()
  await taken(relay)
  const finish = await writeSteadily()
  await until(relay, 'progress by checkpoints', ({ next }) => BigInt(next) > 20n)
  await connector.dropSlots()
  const status = await until(relay, 'polling', ({ source }) => source === 'polling')
  expect(status.mode).toBe('debezium')
  expect(status.waitingFor).toMatch(
    /^polling sends until the connector begins again: slot .* is gone$/,
  )
  const { committed, last } = await finish()
  await drained(relay, last)
  await expectComplete(committed)
  const audited = "select reason from outbox.audit where action = 'stream_ended'"
  expect(await connector.value(audited)).toMatch(/is gone$/)
  await taken(relay)
  const { slot, epoch } = await until(relay, 'the new slot', (now) => now.slot !== null)
  expect(epoch).toBe('1')
  expect(await connector.slots()).toEqual([slot?.name])
})

test('an event that only the connector cannot send makes it FAIL; polling sends it, and the connector begins again', async () => {
  const settings = { 'max.message.bytes': '4000000' }
  const large = `${aggregateType}-large`
  const topics = [{ name: topicOf(large), partitions: 1, settings }]
  await ensureTopics({ brokers, topics, report: () => {} })
  await using relay = await connectorRelay()
  await taken(relay)
  await using writer = await outbox.writer()
  // Beyond the 1 MiB of a request that a producer of Kafka Connect sends.
  const payload = JSON.stringify({ filling: 'x'.repeat(1_500_000) })
  const [last = 0n] = await writer.insert({
    aggregateType: large,
    aggregateId: 'a',
    version: 1,
    payload,
  })
  let passed = false
  await waitUntil(
    async () => {
      const { source, next } = await relay.status()
      if (source === 'polling') return true
      // While it fails, no checkpoint calls the event published.
      passed ||= BigInt(next) > last
      return false
    },
    { what: 'polling', deadlineMs: 30_000, intervalMs: 100 },
  )
  expect(passed).toBe(false)
  expect(relay.logged('connector_restarted')).toBeUndefined()
  await drained(relay, last)
  expect((await dumpTopic(brokers, topicOf(large))).map(({ value }) => value)).toEqual([payload])
  const audited = "select reason from outbox.audit where action = 'stream_ended'"
  expect(await connector.value(audited)).toMatch(/an event that Kafka refuses: .*RecordTooLarge/)
  await taken(relay)
  await deleteTopic(brokers, topicOf(large))
})

test('progress is never ahead of Kafka, inside a large transaction neither', async () => {
  await using relay = await connectorRelay()
  await taken(relay)
  await using superuser = await outbox.superuser()
  const write = (rows: number) =>
    superuser.sql(`insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion,
        type, payload, source, specversion, traceparent, correlationid, causationid, occurred_at)
      select gen_random_uuid(), '${aggregateType}', 'a', n, 'FundsDeposited.v1', '{"amount":"1"}',
        'urn:sluice:command-api', '1.0',
        '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'corr', 'cause', now()
        from generate_series(1, ${rows}) as n order by n`)
  let progress = 0n
  const writing = (async () => {
    for (let n = 0; n < 20; n += 1) await write(500)
    await waitUntil(() => progress >= 10_000n, { what: 'a first part', deadlineMs })
    await write(60_000)
    for (let n = 0; n < 20; n += 1) await write(500)
  })()
  const inKafka = async () =>
    [...(await topicOffsets({ brokers, topic })).values()].reduce((sum, { high }) => sum + high, 0n)
  let looks = 0
  for (; progress < 80_000n; looks += 1) {
    progress = BigInt(await connector.value('select next_position - 1 from outbox.relay'))
    // Asked after progress: Kafka may only have more by then, and one writer leaves no gaps.
    expect(await inKafka()).toBeGreaterThanOrEqual(progress)
  }
  await writing
  expect(looks).toBeGreaterThan(10)
})

describe('Connect being away', () => {
  test('when the mode is asked for refuses it in a sentence, and it is asked for again', async () => {
    await using door = await openDoor(connector.url)
    door.close()
    await using relay = await connectorRelay({ CONNECT_URL: door.url })
    const { mode, source, lastError } = await until(relay, 'a refusal', (now) => {
      return now.lastError !== null
    })
    expect({ mode, source }).toEqual({ mode: 'polling', source: 'polling' })
    expect(lastError?.message).toBe(
      `mode debezium needs Kafka Connect, and none answers at ${door.url}: the mode stays polling`,
    )
    expect(await connector.value('select mode_variable from outbox.relay')).toBe('null')
    await using writer = await outbox.writer()
    const [last = 0n] = await writer.insert({ aggregateType, aggregateId: 'a', version: 1 })
    await drained(relay, last)
    // As where both are started at once, and a worker takes its time.
    door.open()
    await taken(relay)
    expect(await connector.value('select mode_variable from outbox.relay')).toBe('debezium')
  })

  test('at a later start is waited for, while polling sends', async () => {
    await connector.sql("update outbox.relay set mode = 'debezium', mode_variable = 'debezium'")
    await using door = await openDoor(connector.url)
    door.close()
    await using relay = await connectorRelay({ CONNECT_URL: door.url })
    await using writer = await outbox.writer()
    const [last = 0n] = await writer.insert({ aggregateType, aggregateId: 'a', version: 1 })
    await drained(relay, last)
    const { waitingFor } = await until(relay, 'a reason', (now) => now.waitingFor !== null)
    expect(waitingFor).toMatch(/^the connector cannot begin, so polling sends: Kafka Connect, GET/)
    door.open()
    await taken(relay)
  })

  test('later on stops neither the connector nor progress', async () => {
    await using door = await openDoor(connector.url)
    await using relay = await connectorRelay({ CONNECT_URL: door.url })
    await taken(relay)
    door.close()
    await until(relay, 'a reason', ({ waitingFor }) => /does not answer/.test(waitingFor ?? ''))
    await using writer = await outbox.writer()
    const [last = 0n] = await writer.insert({ aggregateType, aggregateId: 'a', version: 1 })
    const { source } = await drained(relay, last)
    expect(source).toBe('debezium')
    await expectComplete([{ aggregateId: 'a', version: 1 }])
    // Nothing can be stopped through a closed door; the slot goes all the same.
    expect((await relay.stop('SIGTERM')).code).toBe(0)
    expect(await connector.slots()).toEqual([])
  })
})

test('a connector that moves nothing is said loudly, and taken up again when it moves', async () => {
  await using relay = await connectorRelay({ RELAY_STANDSTILL_MS: '3000' })
  await taken(relay)
  const [name = ''] = await connector.connectors()
  await connector.put(`/connectors/${name}/pause`)
  const pausedMs = performance.now()
  await using writer = await outbox.writer()
  const [last = 0n] = await writer.insert({ aggregateType, aggregateId: 'a', version: 1 })
  const status = await until(relay, 'the alarm', (now) => now.connector?.standsStill === true)
  expect(performance.now() - pausedMs).toBeLessThan(10_000)
  expect(status.waitingFor).toMatch(
    /^the connector is PAUSED \(tasks: PAUSED\), and moves nothing$/,
  )
  expect(relay.logged('standstill')).toMatchObject({ level: 'error' })
  expect(status.source).toBe('debezium')
  await resume({ url: connector.url }, name)
  await drained(relay, last)
  const { waitingFor } = await until(relay, 'calm', (now) => now.connector?.standsStill === false)
  expect(waitingFor).toBeNull()
})
