import { randomUUID } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { partitionOf } from 'kafka/partition'
import { waitUntil } from 'local-stack/wait-until'
import { hashOfAccessKey, newAccessKey } from 'service/access'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { known } from './test-modes.ts'
import { drained, leads, openStage, type Stage } from './test-stage.ts'

// What is seen from outside of one relay that polls; `promises.kafka.test.ts` has what is promised in
// every mode.

let stage: Stage
beforeEach(async () => {
  stage = await openStage(known.polling)
})
afterEach(() => stage[Symbol.asyncDispose]())

test('a committed row becomes the record of the contract, byte for byte', async () => {
  await stage.makeTopic()
  await using superuser = await stage.session()
  await superuser.sql(`insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion,
      type, payload, source, specversion, traceparent, correlationid, causationid, occurred_at)
    values ('0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10', '${stage.aggregateType}', 'Zoë-1', 7,
      'FundsDeposited.v1', '{"b":1,"a": 1.10, "n":"☃"}', 'urn:sluice:command-api', '1.0',
      '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'corr-1', 'cause-1',
      '2026-11-21 09:00:00.12+01')`)
  await using relay = await stage.relay()
  await drained(relay, stage)
  const dump = await stage.dump()
  expect(dump).toEqual([
    {
      partition: partitionOf('Zoë-1', 3),
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
  await stage.makeTopic()
  await using writer = await stage.session()
  await stage.insert(stage.history(5, 1, 4))
  await using relay = await stage.relay()
  await drained(relay, stage)
  await writer.sql('begin')
  await writer.insert({ aggregateType: stage.aggregateType, aggregateId: 'late', version: 1 })
  await stage.insert(stage.history(1, 5, 5))
  await waitUntil(async () => (await relay.status()).gaps === 1, { what: 'an open gap' })
  expect(await relay.status()).toEqual({
    mode: 'polling',
    switching: null,
    source: 'polling',
    parked: { aggregates: 0, events: 0 },
    partitions: expect.objectContaining({ count: 10, ahead: 9, from: '1', alarms: [] }),
    waitingFor: null,
    slot: null,
    connector: null,
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
  await drained(relay, stage)
  const metrics = await (await fetch(`${relay.url}/metrics`)).text()
  expect(metrics).toMatch(/^sluice_relay_published_records_total\{.*\} 21$/m)
  expect(metrics).toMatch(/^sluice_relay_leader\{.*\} 1$/m)
  expect(metrics).toMatch(/^sluice_relay_backlog_rows\{.*\} 0$/m)
  expect(metrics).toMatch(/^sluice_relay_next_position\{.*\} 23$/m)
})

test('settings that are wrong: one sentence each, and exit code 78', async () => {
  await using relay = await stage.relay({ RELAY_MODE: 'wal', RELAY_BATCH_ROWS: 'many' })
  expect(await relay.exited).toEqual({ code: 78, signal: null })
  expect(relay.errors()).toBe(
    'bad environment:\n' +
      '  RELAY_BATCH_ROWS: must be a whole number\n' +
      '  RELAY_MODE: mode wal needs CDC_DATABASE_URL, the address of the write database for the ' +
      'role sluice_cdc\n',
  )
})

test('GET /relay needs an access key, health does not', async () => {
  const key = newAccessKey()
  const file = join(tmpdir(), `relay-keys-${randomUUID()}.json`)
  const keys = [{ sha256: hashOfAccessKey(key), caller: 'tester', role: 'operator' }]
  await writeFile(file, JSON.stringify({ keys }))
  await using relay = await stage.relay({ AUTH: 'on', ACCESS_KEYS_FILE: file })
  expect((await fetch(`${relay.url}/relay`)).status).toBe(401)
  const headers = { authorization: `Bearer ${key}` }
  expect((await fetch(`${relay.url}/relay`, { headers })).status).toBe(200)
  expect((await fetch(`${relay.url}/livez`)).status).toBe(200)
  await rm(file)
})

test('a leader keeps its lease however many ask what it does, and however long they wait', async () => {
  await stage.makeTopic()
  await using relay = await stage.relay()
  await leads(relay)
  const { epoch } = await relay.status()
  await using blocker = await stage.session()
  await using looker = await stage.session()
  const renewals = async () => {
    const { rows } = await looker.client.query<{ renewal: string }>(
      'select renewal from outbox.relay',
    )
    return Number(rows[0]?.renewal)
  }
  // Nobody is told how much is parked, and all who ask wait for it.
  await blocker.sql('begin')
  await blocker.sql('lock table outbox.parked_aggregates')
  const asked = Array.from({ length: 20 }, () => fetch(`${relay.url}/relay`))
  await stage.insert(stage.history(3, 1, 5))
  const before = await renewals()
  // Three in the length of a lease.
  await waitUntil(async () => (await renewals()) >= before + 9, { what: 'the lease to be renewed' })
  await blocker.sql('rollback')
  await Promise.all(asked)
  await drained(relay, stage)
  expect(await relay.status()).toMatchObject({ epoch, lastError: null })
}, 40_000)
