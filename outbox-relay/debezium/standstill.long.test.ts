import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { known } from '../test-modes.ts'
import { drained, openStage, sendsBy } from '../test-stage.ts'
import { kept } from '../test-topic.ts'

// A topic that is missing holds up a connector for ever: its producer waits, nothing fails, and Connect
// says of the connector and its task that they run.

test('a connector that is RUNNING and moves nothing is told, until it moves', async () => {
  await using stage = await openStage(known.debezium)
  await using relay = await stage.relay({ RELAY_STANDSTILL_MS: '3000' })
  await sendsBy(relay, known.debezium)
  await stage.insert(stage.history(2, 1, 3))
  const standsStill = async () => {
    const status = await relay.status()
    return status.connector?.standsStill === true && status
  }
  const status = await waitUntil(standsStill, { what: 'it to be told', deadlineMs: 20_000 })
  expect(status).toMatchObject({
    source: 'debezium',
    connector: { state: 'RUNNING', tasks: ['RUNNING'], standsStill: true },
    waitingFor: 'the connector is RUNNING (tasks: RUNNING), and moves nothing',
    lastError: { code: 'standstill' },
    backlog: 6,
  })
  expect(relay.logged('standstill')).toMatchObject({ level: 'error' })
  await stage.makeTopic()
  await drained(relay, stage)
  expect(await stage.findings()).toMatchObject(kept)
  const calm = async () => {
    const { connector, waitingFor } = await relay.status()
    return connector?.standsStill === false && waitingFor === null
  }
  await waitUntil(calm, { what: 'it to be over' })
}, 120_000)
