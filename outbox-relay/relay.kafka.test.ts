import { randomUUID } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensureTopics } from 'kafka/admin'
import { partitionOf } from 'kafka/partition'
import { type DumpedRecord, dumpTopic } from 'kafka/topic-dump'
import { testBrokers } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { hashOfAccessKey, newAccessKey } from 'service/access'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type EventToInsert, type TestOutbox, testOutbox } from './test-outbox.ts'
import { type RelayProcess, startRelay } from './test-relay.ts'
import { topicOf } from './wire.ts'

const brokers = testBrokers()
const partitions = 3
let outbox: TestOutbox
let aggregateType: string
let topic: string

beforeEach(async () => {
  outbox = await testOutbox()
  aggregateType = `relay-${randomUUID()}`
  topic = topicOf(aggregateType)
})
afterEach(() => outbox[Symbol.asyncDispose]())

const makeTopic = () =>
  ensureTopics({ brokers, topics: [{ name: topic, partitions, settings: {} }], report: () => {} })

const relayProcess = (environment: Record<string, string> = {}) =>
  startRelay({
    WRITE_DATABASE_URL: outbox.relayUrl,
    KAFKA_BROKERS: brokers.join(','),
    RELAY_LEASE_MS: '1500',
    ...environment,
  })

/** Versions `from` to `to` of each account, in the order in which one writer would write them. */
function history(accounts: number, from: number, to: number): EventToInsert[] {
  const events: EventToInsert[] = []
  for (let version = from; version <= to; version += 1) {
    for (let account = 0; account < accounts; account += 1) {
      events.push({ aggregateType, aggregateId: `a-${account}`, version })
    }
  }
  return events
}

async function insert(events: readonly EventToInsert[], rowsPerStatement = 20): Promise<void> {
  await using writer = await outbox.writer()
  for (let at = 0; at < events.length; at += rowsPerStatement) {
    await writer.insert(...events.slice(at, at + rowsPerStatement))
  }
}

const drained = (relay: RelayProcess) =>
  waitUntil(
    async () => {
      const { backlog, gaps, next } = await relay.status()
      return backlog === 0 && gaps === 0 && next !== '1'
    },
    { what: 'everything to be published', deadlineMs: 20_000 },
  )

const sequenceOf = ({ headers }: DumpedRecord) =>
  Number(headers.find(([name]) => name === 'ce_sequence')?.[1])

/** Each account's versions by first occurrence, all of them in its one partition. */
function versions(dump: readonly DumpedRecord[]): Map<string, number[]> {
  const found = new Map<string, number[]>()
  for (const record of dump) {
    expect(record.partition).toBe(partitionOf(record.key, partitions))
    const seen = found.get(record.key) ?? []
    if (!seen.includes(sequenceOf(record))) seen.push(sequenceOf(record))
    found.set(record.key, seen)
  }
  return found
}

function expectComplete(dump: readonly DumpedRecord[], accounts: number, to: number): void {
  const all = Array.from({ length: to }, (_, n) => n + 1)
  const found = versions(dump)
  expect(found.size).toBe(accounts)
  for (const seen of found.values()) expect(seen).toEqual(all)
}

const leads = (relay: RelayProcess) => relay.logged('leading') !== undefined

test('a committed row becomes the record of the contract, byte for byte', async () => {
  await makeTopic()
  await using superuser = await outbox.superuser()
  await superuser.sql(`insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion,
      type, payload, source, specversion, traceparent, correlationid, causationid, occurred_at)
    values ('0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10', '${aggregateType}', 'Zoë-1', 7,
      'FundsDeposited.v1', '{"b":1,"a": 1.10, "n":"☃"}', 'urn:sluice:command-api', '1.0',
      '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'corr-1', 'cause-1',
      '2026-11-21 09:00:00.12+01')`)
  await using relay = await relayProcess()
  await drained(relay)
  const dump = await dumpTopic(brokers, topic)
  expect(dump).toEqual([
    {
      partition: partitionOf('Zoë-1', partitions),
      offset: 0n,
      key: 'Zoë-1',
      value: '{"b":1,"a": 1.10, "n":"☃"}',
      headers: [
        ['id', '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10'],
        ['ce_type', 'FundsDeposited.v1'],
        ['ce_sequence', '7'],
        ['ce_time', '2026-11-21T08:00:00.120000Z'],
        ['ce_source', 'urn:sluice:command-api'],
        ['ce_specversion', '1.0'],
        ['ce_id', '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10'],
        ['ce_correlationid', 'corr-1'],
        ['ce_causationid', 'cause-1'],
        ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
        ['content-type', 'application/json'],
      ],
    },
  ])
})

test('GET /relay tells mode, leader, epoch, progress, backlog and the last batch', async () => {
  await makeTopic()
  await using writer = await outbox.writer()
  await insert(history(5, 1, 4))
  await using relay = await relayProcess()
  await drained(relay)
  await writer.sql('begin')
  await writer.insert({ aggregateType, aggregateId: 'late', version: 1 })
  await insert(history(1, 5, 5))
  await waitUntil(async () => (await relay.status()).gaps === 1, { what: 'an open gap' })
  expect(await relay.status()).toEqual({
    mode: 'polling',
    leader: expect.stringMatching(/:\d+:/),
    epoch: '1',
    next: '23',
    gaps: 1,
    backlog: 0,
    oldestUnpublishedMs: null,
    lastBatch: {
      rows: 1,
      payloadBytes: 14,
      firstPosition: '22',
      lastPosition: '22',
      publishMs: expect.any(Number),
      at: expect.stringMatching(/Z$/),
    },
    lastError: null,
  })
  await writer.sql('rollback')
  await drained(relay)
  const metrics = await (await fetch(`${relay.url}/metrics`)).text()
  expect(metrics).toMatch(/^sluice_relay_published_records_total\{.*\} 21$/m)
  expect(metrics).toMatch(/^sluice_relay_leader\{.*\} 1$/m)
  expect(metrics).toMatch(/^sluice_relay_backlog_rows\{.*\} 0$/m)
  expect(metrics).toMatch(/^sluice_relay_next_position\{.*\} 23$/m)
})

test('a relay killed with -9 again and again, events arriving throughout, loses nothing', async () => {
  await makeTopic()
  const [accounts, to] = [40, 100]
  const inserting = insert(history(accounts, 1, to))
  for (let kills = 0; kills < 4; kills += 1) {
    await using relay = await relayProcess({ RELAY_BATCH_ROWS: '25' })
    const published = async () => ((await relay.status()).lastBatch === null ? null : true)
    await waitUntil(published, { what: 'a batch', deadlineMs: 20_000, intervalMs: 3 })
    await relay.stop('SIGKILL')
  }
  await inserting
  await using relay = await relayProcess()
  await drained(relay)
  expectComplete(await dumpTopic(brokers, topic), accounts, to)
}, 60_000)

describe('of two relays', () => {
  test('one leads and the other is ready; killed, the leader is replaced after its lease', async () => {
    await makeTopic()
    await using first = await relayProcess()
    await waitUntil(() => leads(first), { what: 'the first to lead' })
    await using second = await relayProcess()
    await insert(history(10, 1, 10))
    await drained(first)
    expect((await fetch(`${second.url}/readyz`)).status).toBe(200)
    expect(leads(second)).toBe(false)
    const { epoch, leader } = await second.status()
    expect(epoch).toBe('1')
    await first.stop('SIGKILL')
    await insert(history(10, 11, 20))
    await waitUntil(() => leads(second), { what: 'the second to lead' })
    await drained(second)
    const after = await second.status()
    expect(after.epoch).toBe('2')
    expect(after.leader).not.toBe(leader)
    expectComplete(await dumpTopic(brokers, topic), 10, 20)
  }, 60_000)

  test('a leader that is asked to stop saves, hands over at once and exits with 0', async () => {
    await makeTopic()
    // With a lease of five minutes nobody takes over by waiting.
    const lease = { RELAY_LEASE_MS: '300000' }
    await using first = await relayProcess(lease)
    await waitUntil(() => leads(first), { what: 'the first to lead' })
    await using second = await relayProcess(lease)
    const inserting = insert(history(20, 1, 40))
    await waitUntil(async () => (await first.status()).lastBatch !== null, { what: 'a batch' })
    expect(await first.stop('SIGTERM')).toEqual({ code: 0, signal: null })
    await waitUntil(() => leads(second), { what: 'the second to lead' })
    await inserting
    await drained(second)
    const dump = await dumpTopic(brokers, topic)
    expectComplete(dump, 20, 40)
    // Nothing was in flight unsaved, so nothing was repeated.
    expect(dump).toHaveLength(20 * 40)
  }, 60_000)

  test('a paused leader that wakes up after the takeover sends nothing new and stands by', async () => {
    await makeTopic()
    await using first = await relayProcess()
    await waitUntil(() => leads(first), { what: 'the first to lead' })
    await using second = await relayProcess()
    const inserting = insert(history(20, 1, 60))
    await waitUntil(async () => (await first.status()).lastBatch !== null, { what: 'a batch' })
    void first.stop('SIGSTOP')
    await waitUntil(() => leads(second), { what: 'the second to lead' })
    await inserting
    void first.stop('SIGCONT')
    await waitUntil(() => first.logged('leading_ended') !== undefined, { what: 'it to notice' })
    await drained(second)
    expectComplete(await dumpTopic(brokers, topic), 20, 60)
    expect((await second.status()).epoch).toBe('2')
  }, 60_000)
})

describe('what no waiting can mend ends the relay loudly', () => {
  test('an event that Kafka refuses: all before it is published and saved, nothing after', async () => {
    await makeTopic()
    await insert(history(3, 1, 5))
    const payload = JSON.stringify('x'.repeat(1_100_000))
    await insert([{ aggregateType, aggregateId: 'huge', version: 1, payload }])
    await insert(history(3, 6, 6))
    await using relay = await relayProcess()
    expect(await relay.exited).toEqual({ code: 1, signal: null })
    const failure = relay.logged('process_failed')
    expect(failure).toMatchObject({
      level: 'fatal',
      err: {
        code: 'event_refused',
        message: expect.stringMatching(
          /position 16 .*huge version 1, 1100\d{3} bytes.*max\.message/,
        ),
        details: { position: '16', aggregateId: 'huge', version: '1' },
      },
    })
    expect(JSON.stringify(relay.lines)).not.toContain('xxxxx')
    expectComplete(await dumpTopic(brokers, topic), 3, 5)
    const { rows } = await outbox.pool.query('select next_position, leader from outbox.relay')
    expect(rows).toEqual([{ next_position: '16', leader: null }])
  })

  test('progress that was made on another server: nothing is published', async () => {
    await makeTopic()
    await insert(history(1, 1, 1))
    await using superuser = await outbox.superuser()
    await superuser.sql(`update outbox.relay set system_identifier = '1'`)
    await using relay = await relayProcess()
    expect(await relay.exited).toEqual({ code: 1, signal: null })
    expect(relay.logged('process_failed')?.err?.code).toBe('foreign_server')
    expect(await dumpTopic(brokers, topic)).toEqual([])
  })

  test('settings that are wrong: one sentence each, and exit code 78', async () => {
    await using relay = await relayProcess({ RELAY_MODE: 'wal', RELAY_BATCH_ROWS: 'many' })
    expect(await relay.exited).toEqual({ code: 78, signal: null })
    expect(relay.errors()).toBe(
      'bad environment:\n' +
        '  RELAY_MODE: only polling is supported by this version\n' +
        '  RELAY_BATCH_ROWS: must be a whole number\n',
    )
  })
})

describe('what passes is waited for', () => {
  test('a topic that is not there: the relay is ready, says why it waits, and goes on', async () => {
    await insert(history(2, 1, 3))
    await using relay = await relayProcess()
    const waits = async () => (await relay.status()).lastError?.code === 'publish_failed'
    await waitUntil(waits, { what: 'the failure to be told' })
    expect((await fetch(`${relay.url}/readyz`)).status).toBe(200)
    expect((await relay.status()).backlog).toBe(6)
    expect(relay.lines.some(({ msg }) => /run npm run migrate/.test(msg ?? ''))).toBe(true)
    await makeTopic()
    await drained(relay)
    expectComplete(await dumpTopic(brokers, topic), 2, 3)
  })

  test('its connections cut by the server: it leads again and goes on', async () => {
    await makeTopic()
    await using relay = await relayProcess()
    await insert(history(5, 1, 5))
    await drained(relay)
    await using superuser = await outbox.superuser()
    await superuser.sql(`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name like 'sluice-relay%'`)
    await insert(history(5, 6, 9))
    await drained(relay)
    expectComplete(await dumpTopic(brokers, topic), 5, 9)
  })
})

test('GET /relay needs an access key, health does not', async () => {
  const key = newAccessKey()
  const file = join(tmpdir(), `relay-keys-${randomUUID()}.json`)
  const keys = [{ sha256: hashOfAccessKey(key), caller: 'tester', role: 'operator' }]
  await writeFile(file, JSON.stringify({ keys }))
  await using relay = await relayProcess({ AUTH: 'on', ACCESS_KEYS_FILE: file })
  expect((await fetch(`${relay.url}/relay`)).status).toBe(401)
  const headers = { authorization: `Bearer ${key}` }
  expect((await fetch(`${relay.url}/relay`, { headers })).status).toBe(200)
  expect((await fetch(`${relay.url}/livez`)).status).toBe(200)
  await rm(file)
})
