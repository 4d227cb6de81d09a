import { waitUntil } from 'local-stack/wait-until'
import { expect, test, vi } from 'vitest'
import { known } from '../test-modes.ts'
import {
  act,
  hugePayload,
  nothingParked,
  parkedList,
  parks,
  raiseLimit,
  setLimit,
} from '../test-parking.ts'
import type { RelayProcess } from '../test-relay.ts'
import { drained, openStage, sendsBy, type Stage } from '../test-stage.ts'
import { kept } from '../test-topic.ts'
import { testConnector } from './test-connector.ts'

// A connector knows nothing of what is parked.

vi.setConfig({ testTimeout: 240_000 })

/** Polling sends in the connector's place, and says so. */
const refused = (relay: RelayProcess) =>
  waitUntil(
    async () => {
      const { mode, switching, source, waitingFor } = await relay.status()
      const polls = (switching?.to ?? mode) === 'debezium' && source === 'polling'
      return polls && waitingFor?.startsWith('aggregates_parked: 1 ')
    },
    { what: 'the connector to be refused', deadlineMs: 30_000 },
  )

/** Why the connector does not send any more, as it is written down. */
async function endOfStream(stage: Stage): Promise<string> {
  await using session = await stage.session()
  const { rows } = await session.client.query<{ reason: string }>(
    `select reason from outbox.audit where action = 'stream_ended' order by id desc limit 1`,
  )
  return rows[0]?.reason ?? ''
}

test('an event that Kafka refuses ends the connector at once; polling parks it, and the connector comes back when it is released', async () => {
  await using stage = await openStage(known.debezium)
  await stage.makeTopic()
  await using connector = await testConnector(stage.outbox)
  await using relay = await stage.relay()
  await sendsBy(relay, known.debezium)
  await stage.insert([
    ...stage.history(3, 1, 5),
    { aggregateType: stage.aggregateType, aggregateId: 'a-1', version: 6, payload: hugePayload },
    ...stage.history(1, 6, 10),
  ])
  await refused(relay)
  await stage.insert([{ aggregateType: stage.aggregateType, aggregateId: 'a-1', version: 7 }])
  await drained(relay, stage)
  await parks(relay, 2)
  expect(await endOfStream(stage)).toMatch(
    /FAILED by an event that Kafka refuses: .*RecordTooLarge/,
  )
  expect(await parkedList(relay)).toMatchObject([
    { aggregateId: 'a-1', refused: { version: '6', reason: 'MESSAGE_TOO_LARGE' }, events: 2 },
  ])
  await waitUntil(
    async () => (await connector.connectors()).length + (await connector.slots()).length === 0,
    { what: 'nothing to be retained', deadlineMs: 30_000 },
  )
  await raiseLimit(stage)
  expect(await act(relay, stage, { kind: 'retry', aggregateId: 'a-1' })).toBe(202)
  await nothingParked(relay)
  await sendsBy(relay, known.debezium)
  await stage.insert([{ aggregateType: stage.aggregateType, aggregateId: 'a-1', version: 8 }])
  await drained(relay, stage)
  expect(await stage.findings()).toMatchObject(kept)
})

test('an aggregate that is parked on the way to the connector keeps it from beginning, after a restart too', async () => {
  await using stage = await openStage(known.debezium)
  await stage.makeTopic()
  await using connector = await testConnector(stage.outbox)
  await stage.insert([
    { aggregateType: stage.aggregateType, aggregateId: 'a-0', version: 1, payload: hugePayload },
    ...stage.history(3, 2, 5),
  ])
  await using relay = await stage.relay()
  await refused(relay)
  await drained(relay, stage)
  await parks(relay, 5)
  expect(await relay.stop('SIGTERM')).toEqual({ code: 0, signal: null })
  await using next = await stage.relay()
  await refused(next)
  expect(await connector.connectors()).toEqual([])
  expect(await act(next, stage, { kind: 'skip', aggregateId: 'a-0' })).toBe(202)
  await nothingParked(next)
  await sendsBy(next, known.debezium)
  await stage.insert(stage.history(3, 6, 7))
  await drained(next, stage)
  expect(await stage.findings()).toMatchObject({ ...kept, lost: 1 })
})

test('an account keeps its order where its topic takes less than a connector sends, and many of its events are behind the refused one', async () => {
  await using stage = await openStage(known.debezium)
  await stage.makeTopic()
  await setLimit(stage, 100_000)
  await stage.insert(stage.history(3, 1, 5))
  await using relay = await stage.relay()
  await sendsBy(relay, known.debezium)
  const payload = JSON.stringify('x'.repeat(200_000))
  const events = stage.history(3, 6, 400).map((event) => {
    const isTooLarge = event.aggregateId === 'a-1' && event.version === 6
    return isTooLarge ? { ...event, payload } : event
  })
  // In one statement, so that the connector has all of them before Kafka answers.
  await stage.insert(events, events.length)
  await refused(relay)
  await parks(relay, 395)
  await raiseLimit(stage)
  expect(await act(relay, stage, { kind: 'retry', aggregateId: 'a-1' })).toBe(202)
  await nothingParked(relay)
  await drained(relay, stage)
  expect(await stage.findings()).toMatchObject(kept)
  await sendsBy(relay, known.debezium)
})
