import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { openDoor, testConnector } from './debezium/test-connector.ts'
import { known, type TestedMode } from './test-modes.ts'
import { advances, drained, leads, openStage, sendsBy } from './test-stage.ts'
import { kept } from './test-topic.ts'

const { polling, wal, debezium } = known

// Each of the six directions once, and back to where it began.
const round: readonly TestedMode[] = [wal, debezium, polling, debezium, wal, polling]

test('all six switches are made live under load, by one leader, and all is kept', async () => {
  await using stage = await openStage(debezium)
  await using connector = await testConnector(stage.outbox)
  await stage.makeTopic()
  await using writing = await stage.keepWriting(20)
  await using relay = await stage.relay({ RELAY_MODE: '' })
  await leads(relay)
  const { epoch } = await relay.status()
  for (const mode of round) {
    expect((await relay.ask(mode.name)).status).toBe(202)
    await sendsBy(relay, mode)
    await advances(relay)
    if (mode.name === 'debezium') continue
    const what = 'the connector to be gone'
    await waitUntil(async () => (await connector.connectors()).length === 0, { what })
  }
  await writing.stop()
  await drained(relay, stage)
  expect(await relay.status()).toMatchObject({ epoch, mode: 'polling', switching: null })
  expect(await connector.slots()).toEqual([])
  expect(await stage.findings()).toMatchObject(kept)
}, 180_000)

test('a connector is left though Kafka Connect is away, which removes it when it is back', async () => {
  await using stage = await openStage(debezium)
  await using connector = await testConnector(stage.outbox)
  await using door = await openDoor(connector.url)
  await stage.makeTopic()
  await using writing = await stage.keepWriting(10)
  await using relay = await stage.relay({ RELAY_MODE: 'debezium', CONNECT_URL: door.url })
  await sendsBy(relay, debezium)
  door.close()
  await relay.ask('polling')
  await sendsBy(relay, polling)
  await advances(relay)
  expect(await connector.connectors()).toHaveLength(1)
  expect(await relay.ask('debezium')).toMatchObject({
    status: 409,
    body: { detail: expect.stringMatching(/none answers/) },
  })
  door.open()
  await waitUntil(async () => (await connector.connectors()).length === 0, {
    what: 'the connector to be gone',
    deadlineMs: 90_000,
  })
  await writing.stop()
  await drained(relay, stage)
  expect(await connector.slots()).toEqual([])
  expect(await stage.findings()).toMatchObject(kept)
}, 180_000)
