import { setTopic } from 'kafka/test-topics'
import { testConnect } from 'local-stack/test-connect'
import { testBrokers } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { known } from '../test-modes.ts'
import { advances, drained, openStage, sendsBy, type Stage } from '../test-stage.ts'
import { kept } from '../test-topic.ts'
import { auditOf, metric } from '../wal/test-wal-relay.ts'

// A task that FAILED, by something that a restart cannot know whether it has passed.

const mode = known.debezium
const deadlineMs = 90_000
let stage: Stage
beforeEach(async () => {
  stage = await openStage(mode)
  await stage.makeTopic()
})
afterEach(() => stage[Symbol.asyncDispose]())

test('a connector that FAILED by what passes is restarted, and sends on', async () => {
  await using relay = await stage.relay({ RELAY_LEASE_MS: '10000' })
  await sendsBy(relay, mode)
  await stage.insert(stage.history(5, 1, 20))
  await drained(relay, stage)
  // No record is young enough. One alone, since of several Kafka's client says that they are invalid.
  const bound = { topic: stage.topic, name: 'message.timestamp.before.max.ms' }
  await setTopic(testBrokers(), { ...bound, value: '0' })
  const restarted = () => relay.logged('connector_restarted') !== undefined
  let version = 20
  while (!restarted()) {
    version += 1
    await stage.insert(stage.history(1, version, version))
    // The broker takes a moment to know the bound.
    const settled = async () => restarted() || (await relay.status()).backlog === 0
    await waitUntil(settled, { what: 'a restart', deadlineMs })
  }
  await setTopic(testBrokers(), { ...bound, value: String(2n ** 63n - 1n) })
  await drained(relay, stage)
  await stage.insert(stage.history(1, version + 1, version + 20))
  await drained(relay, stage)
  // It was the same connector all the time: nothing but a restart brought it back.
  await using session = await stage.session()
  expect(await auditOf(session)).toEqual(['1 stream_began'])
  expect(await metric(relay, 'sluice_relay_connector_restarts_total')).toBeGreaterThan(0)
  expect(await relay.status()).toMatchObject({
    source: 'debezium',
    connector: { state: 'RUNNING', tasks: ['RUNNING'] },
    lastError: null,
  })
  expect(await stage.findings()).toMatchObject(kept)
}, 180_000)

/** Somebody's mistake, which no restart undoes: every event makes the task FAIL. */
async function misconfigure(name: string): Promise<void> {
  const path = `${await testConnect()}/connectors/${name}/config`
  const configuration = (await (await fetch(path)).json()) as Record<string, string>
  const wrong = { ...configuration, 'transforms.outbox.route.by.field': 'nowhere' }
  const headers = { 'Content-Type': 'application/json' }
  const { status } = await fetch(path, { method: 'PUT', headers, body: JSON.stringify(wrong) })
  expect(status).toBe(200)
}

test('a connector that FAILED for good is given up: polling sends, it is told, and nothing is lost', async () => {
  await using relay = await stage.relay({ RELAY_LEASE_MS: '10000' })
  await sendsBy(relay, mode)
  await using writing = await stage.keepWriting(5)
  await advances(relay)
  await misconfigure((await relay.status()).connector?.name ?? '')
  const polls = async () => (await relay.status()).source === 'polling'
  await waitUntil(polls, { what: 'polling', deadlineMs, intervalMs: 100 })
  await advances(relay)
  await writing.stop()
  await drained(relay, stage)
  expect(relay.lines.filter(({ event }) => event === 'connector_restarted')).toHaveLength(5)
  const why = /FAILED after 5 restarts: Caused by: .*nowhere/
  expect(await relay.status()).toMatchObject({
    mode: 'debezium',
    connector: null,
    waitingFor: expect.stringMatching(/^polling sends until another leadership begins: /),
    lastError: { code: 'connector_lost', message: expect.stringMatching(why) },
  })
  await using session = await stage.session()
  expect(await auditOf(session)).toEqual(['1 stream_began', '1 stream_ended'])
  const { rows } = await session.client.query<{ reason: string }>(
    "select reason from outbox.audit where action = 'stream_ended'",
  )
  expect(rows[0]?.reason).toMatch(why)
  expect(await metric(relay, 'sluice_relay_stream_losses_total')).toBe(1)
  expect(await stage.findings()).toMatchObject(kept)
  // As the runbook has it.
  expect((await relay.ask('polling')).status).toBe(202)
  await waitUntil(async () => (await relay.status()).mode === 'polling', { what: 'the mode' })
  expect((await relay.ask('debezium')).status).toBe(202)
  await sendsBy(relay, mode)
}, 240_000)
