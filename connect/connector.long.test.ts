import { inspect, isDeepStrictEqual } from 'node:util'
import { topicOffsets } from 'kafka/admin'
import { waitUntil } from 'local-stack/wait-until'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  type ConnectorConfiguration,
  connectAnswers,
  connectorConfiguration,
  createStopped,
  listConnectors,
  patchOffsets,
  remove,
  restartFailed,
  resume,
  status,
  stop,
} from './connector.ts'
import { expectedRecords, testOutbox, type TestOutbox } from './test-outbox.ts'

let outbox: TestOutbox
beforeEach(async () => void (outbox = await testOutbox()))
afterEach(() => outbox[Symbol.asyncDispose]())

const heartbeatTopic = '__debezium-heartbeat.sluice'

/** As design 5.4 has it: slot, connector STOPPED, its offsets, then resume. */
async function enter(
  configuration: ConnectorConfiguration = outbox.configuration,
  { createSlot, connect, connectorName }: TestOutbox = outbox,
): Promise<void> {
  const lsn = await createSlot()
  await createStopped(connect, configuration)
  await patchOffsets(connect, connectorName, lsn)
  await resume(connect, connectorName)
}

const taskIs = (state: string, { connect, connectorName }: TestOutbox = outbox) =>
  waitUntil(
    async () => {
      const now = await status(connect, connectorName)
      return now?.tasks[0]?.state === state && now
    },
    { what: `the task to be ${state}`, deadlineMs: 20_000, intervalMs: 100 },
  )

const published = (count: number, deadlineMs = 20_000, from: TestOutbox = outbox) =>
  waitUntil(
    async () => {
      const ends = await topicOffsets(from)
      const there = [...ends.values()].reduce((sum, { high }) => sum + Number(high), 0)
      return there >= count && from.published()
    },
    { what: `${count} records`, deadlineMs, intervalMs: 100 },
  )

const heartbeats = async () => {
  const ends = await topicOffsets({ brokers: outbox.brokers, topic: heartbeatTopic })
  return ends.get(0)?.high ?? 0n
}

describe('entering', () => {
  test('publishes exactly the rows committed after the slot’s point, in the contract’s bytes', async () => {
    await outbox.insert({ aggregateId: 'a-1', version: 1 })
    const lsn = await outbox.createSlot()
    const rows = await outbox.insert(
      { aggregateId: 'a-1', version: 2, payload: '{"b":1,"a": 1.10,  "n":12345678901234567890}' },
      { aggregateId: 'ä-2', version: 1, payload: '{"owner":"Ada \\u00e4 ß 漢 \\"x\\"\\n"}' },
    )
    await createStopped(outbox.connect, outbox.configuration)
    await patchOffsets(outbox.connect, outbox.connectorName, lsn)
    await resume(outbox.connect, outbox.connectorName)
    for (const row of [
      { aggregateId: 'a-1', version: 3, occurredAt: '2026-11-21T09:00:00+01' },
      { aggregateId: 'a-1', version: 4, occurredAt: '1969-12-31T23:59:59.999999Z' },
      { aggregateId: 'a-3', version: 9_007_199_254_740_991, correlationId: 'ö=1' },
    ]) {
      rows.push(...(await outbox.insert(row)))
    }
    expect(await published(5)).toEqual(expectedRecords(rows))
  })

  test('again after a stop goes on where it was, with Debezium’s default sizes too', async () => {
    await enter()
    const rows = await outbox.insert({ aggregateId: 'a-1', version: 1 })
    await published(1)
    await stop(outbox.connect, outbox.connectorName)
    rows.push(...(await outbox.insert({ aggregateId: 'a-1', version: 2 })))
    // What is there already is given the new configuration, and keeps its offsets.
    await createStopped(
      outbox.connect,
      connectorConfiguration({ ...outbox.settings, tuning: 'debezium-defaults' }),
    )
    await resume(outbox.connect, outbox.connectorName)
    expect(await published(2)).toEqual(expectedRecords(rows))
  })
})

test('a header that InsertHeader sets is not the text it was given: why specversion is a column', async () => {
  const literals = { number: '1.0', quoted: '"1.0"', word: 'application/json' }
  const names = Object.keys(literals)
  const configuration = {
    ...outbox.configuration,
    transforms: ['outbox', ...names].join(','),
    ...Object.fromEntries(
      Object.entries(literals).flatMap(([name, literal]) => [
        [`transforms.${name}.type`, 'org.apache.kafka.connect.transforms.InsertHeader'],
        [`transforms.${name}.header`, name],
        [`transforms.${name}.value.literal`, literal],
      ]),
    ),
  }
  await enter(configuration)
  await outbox.insert({ aggregateId: 'a-1', version: 1 })
  const [record] = await published(1)
  const found = Object.fromEntries(record?.headers ?? [])
  expect(found).toMatchObject({ number: '1', quoted: '"1.0"', word: 'application/json' })
  expect(found).toMatchObject({ ce_specversion: '1.0' })
})

describe('a slot that is dropped before any offset was stored', () => {
  test('makes the task FAIL, and nothing is passed over; once it is back, a restart is enough', async () => {
    const lsn = await outbox.createSlot()
    await outbox.keepSlot()
    await createStopped(outbox.connect, outbox.configuration)
    await patchOffsets(outbox.connect, outbox.connectorName, lsn)
    const rows = await outbox.insert({ aggregateId: 'a-1', version: 1 })
    await outbox.dropSlot()
    await resume(outbox.connect, outbox.connectorName)
    const { tasks } = await taskIs('FAILED')
    expect(tasks[0]?.failure).toMatch(/no longer available on the server/)
    expect(await outbox.published()).toEqual([])
    await outbox.restoreSlot()
    await restartFailed(outbox.connect, outbox.connectorName)
    await taskIs('RUNNING')
    expect(await published(1)).toEqual(expectedRecords(rows))
  })

  test('is made anew without a word where offsets were not patched: the control', async () => {
    await outbox.createSlot()
    await createStopped(outbox.connect, outbox.configuration)
    await outbox.insert({ aggregateId: 'a-1', version: 1 })
    await outbox.dropSlot()
    await resume(outbox.connect, outbox.connectorName)
    await taskIs('RUNNING')
    await waitUntil(() => outbox.slotIsActive(), { what: 'the new slot', deadlineMs: 20_000 })
    const later = await outbox.insert({ aggregateId: 'a-1', version: 2 })
    expect(await published(1)).toEqual(expectedRecords(later))
    await taskIs('RUNNING')
  })
})

const emit = (transactional: boolean) =>
  outbox.superuser.query("select pg_logical_emit_message($1, 'foreign', 'x')", [transactional])

describe('a message of another application in the log', () => {
  test('blocks nothing, and a transactional one moves the slot of an idle outbox', async () => {
    await enter()
    await emit(false)
    await emit(true)
    const rows = await outbox.insert({ aggregateId: 'a-1', version: 1 })
    expect(await published(1)).toEqual(expectedRecords(rows))
    const { rows: written } = await outbox.superuser.query<{ lsn: string }>(
      'select pg_current_wal_insert_lsn()::text as lsn',
    )
    await emit(true)
    await waitUntil(() => outbox.slotPassed(written[0]?.lsn ?? ''), {
      what: 'the slot to pass',
      deadlineMs: 20_000,
    })
  })

  test('blocks the connector, RUNNING, where messages are not excluded: the control', async () => {
    const { 'message.prefix.exclude.list': _, ...configuration } = outbox.configuration
    await enter(configuration)
    await taskIs('RUNNING')
    await emit(true)
    await outbox.insert({ aggregateId: 'a-1', version: 1 })
    await expect(published(1, 6_000)).rejects.toMatchObject({ code: 'deadline_passed' })
    await taskIs('RUNNING')
  })
})

describe('heartbeats', () => {
  test('go to a topic that migrate made', async () => {
    await enter()
    await taskIs('RUNNING')
    const before = await heartbeats()
    await waitUntil(async () => (await heartbeats()) > before, {
      what: 'a heartbeat',
      deadlineMs: 20_000,
      intervalMs: 200,
    })
  })

  test('leave the slot of an idle outbox where it is beside a busy database; a message moves it', async () => {
    await enter()
    await taskIs('RUNNING')
    await outbox.superuser.query('create table busy (filling text)')
    await outbox.superuser.query(
      "insert into busy select repeat('x', 1000) from generate_series(1, 20000)",
    )
    const { rows } = await outbox.superuser.query<{ lsn: string }>(
      'select pg_current_wal_insert_lsn()::text as lsn',
    )
    const passed = () => outbox.slotPassed(rows[0]?.lsn ?? '')
    const before = await heartbeats()
    const beats = async () => (await passed()) || (await heartbeats()) >= before + 5n
    await waitUntil(beats, { what: 'heartbeats', deadlineMs: 20_000, intervalMs: 200 })
    expect(await passed()).toBe(false)
    await emit(true)
    await waitUntil(passed, { what: 'the slot to pass', deadlineMs: 20_000 })
  })

  test('block the connector, RUNNING, where their topic is missing: the control', async () => {
    await enter({ ...outbox.configuration, 'topic.heartbeat.prefix': 'missing' })
    await taskIs('RUNNING')
    // What came before the first heartbeat, a second later, may still pass.
    let version = 0
    await waitUntil(
      async () => {
        await outbox.insert({ aggregateId: 'a-1', version: ++version })
        return published(version, 4_000).then(
          () => false,
          () => true,
        )
      },
      { what: 'a row that stays behind', deadlineMs: 25_000 },
    )
    await taskIs('RUNNING')
  })
})

test('a connection that was cut is taken up again, and nothing is lost', async () => {
  await enter()
  const rows = await outbox.insert({ aggregateId: 'a-1', version: 1 })
  await published(1)
  await outbox.superuser.query(
    'select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1',
    [outbox.settings.slotName],
  )
  rows.push(...(await outbox.insert({ aggregateId: 'a-1', version: 2 })))
  // Debezium's default alone would be a wait of 10 s.
  const all = await published(2, 8_000)
  expect(all.filter((each, n) => n === 0 || !isDeepStrictEqual(each, all[n - 1]))).toEqual(
    expectedRecords(rows),
  )
})

describe('two connectors on one worker', () => {
  test('do not wait for each other', async () => {
    await enter()
    await taskIs('RUNNING')
    await using other = await testOutbox()
    await enter(other.configuration, other)
    const rows = await other.insert({ aggregateId: 'a-1', version: 1 })
    expect(await published(1, 8_000, other)).toEqual(expectedRecords(rows))
  })

  test('do so, RUNNING, where their metrics have one name: the control', async () => {
    const untagged = ({ configuration }: TestOutbox) => {
      const { 'custom.metric.tags': _, ...rest } = configuration
      return rest
    }
    await enter(untagged(outbox))
    await outbox.insert({ aggregateId: 'a-1', version: 1 })
    await published(1)
    await using other = await testOutbox()
    await enter(untagged(other), other)
    await other.insert({ aggregateId: 'a-1', version: 1 })
    await expect(published(1, 8_000, other)).rejects.toMatchObject({ code: 'deadline_passed' })
    await taskIs('RUNNING', other)
  })
})

describe('Connect’s REST interface', () => {
  test('answers, lists by prefix, and forgets what is removed, offsets included', async () => {
    const { connect, connectorName } = outbox
    expect(await connectAnswers(connect)).toBe(true)
    await enter()
    await outbox.insert({ aggregateId: 'a-1', version: 1 })
    await published(1)
    expect(await listConnectors(connect, connectorName)).toEqual([connectorName])
    await remove(connect, connectorName)
    expect(await listConnectors(connect, connectorName)).toEqual([])
    expect(await status(connect, connectorName)).toBeUndefined()
    await remove(connect, connectorName)

    await createStopped(connect, outbox.configuration)
    const response = await fetch(`${connect.url}/connectors/${connectorName}/offsets`)
    expect(await response.json()).toEqual({ offsets: [] })
  })

  test('says what is missing', async () => {
    const { connect } = outbox
    const missing = { code: 'connector_missing' }
    await expect(resume(connect, 'nobody')).rejects.toMatchObject(missing)
    await expect(stop(connect, 'nobody')).rejects.toMatchObject(missing)
    await expect(restartFailed(connect, 'nobody')).rejects.toMatchObject(missing)
    await expect(patchOffsets(connect, 'nobody', '0/1')).rejects.toMatchObject(missing)
  })

  test('refuses a database it cannot enter, and the refusal holds no password', async () => {
    const wrong = { ...outbox.configuration, 'database.password': 'WrongButSecret' }
    const refusal = await createStopped(outbox.connect, wrong).catch((error: unknown) => error)
    expect(refusal).toMatchObject({ code: 'connect_refused' })
    expect(inspect(refusal)).toContain('password authentication failed')
    expect(inspect(refusal)).not.toContain('WrongButSecret')
  })
})
