import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { known } from '../test-modes.ts'
import { testOutbox } from '../test-outbox.ts'
import { drained, openStage, type Stage } from '../test-stage.ts'
import { type CommittedEvent, findingsIn, kept } from '../test-topic.ts'
import { byAgeAlone, maintaining } from './test-maintainer.ts'
import { fill, maintainOnce, makeSmall, namesOf } from './test-partitions.ts'

const slot = 'retention_kafka_test'

/** Three partitions full of events, and what they are. */
async function filled(stage: Stage): Promise<CommittedEvent[]> {
  await using session = await stage.session()
  await fill(session, 310, stage.aggregateType)
  const { rows } = await session.client.query<{ id: string; aggregateid: string; version: number }>(
    'select id, aggregateid, aggregateversion::int as version from outbox.events',
  )
  return rows.map(({ id, aggregateid, version }) => ({ id, aggregateId: aggregateid, version }))
}

test('nothing goes unpublished, nor before a slot has passed it; then it does, and nothing is lost', async () => {
  await using outbox = await testOutbox()
  await makeSmall(outbox)
  await using stage = await openStage(known.polling, { outbox })
  await stage.makeTopic()
  const committed = await filled(stage)
  const all = ['1', '101', '201', '301', '401', '501']
  expect(await maintainOnce(outbox)).toMatchObject({ retired: [] })
  expect(await namesOf(outbox)).toEqual(all)
  await using session = await stage.session()
  await session.sql(`select pg_create_logical_replication_slot('${slot}', 'pgoutput')`)
  try {
    await using relay = await stage.relay(maintaining(outbox))
    await drained(relay, stage)
    const { partitions } = await waitUntil(
      async () => {
        const status = await relay.status()
        return status.partitions.waitingFor?.includes(slot) === true && status
      },
      { what: 'maintenance to wait for the slot' },
    )
    const before = partitions.lastRun?.at
    await waitUntil(async () => (await relay.status()).partitions.lastRun?.at !== before, {
      what: 'another run',
    })
    expect(await namesOf(outbox)).toEqual(all)
    await session.sql(`select pg_replication_slot_advance('${slot}', pg_current_wal_insert_lsn())`)
    await waitUntil(async () => String(await namesOf(outbox)) === '301,401,501', {
      what: 'the published partitions to go',
    })
  } finally {
    await session.sql(`select pg_drop_replication_slot('${slot}')`)
  }
  expect(findingsIn(await stage.dump(), committed, 3)).toMatchObject(kept)
}, 90_000)

test('the control: what drops by age alone loses events, and the checker says so', async () => {
  await using outbox = await testOutbox()
  await makeSmall(outbox)
  await using stage = await openStage(known.polling, { outbox })
  const committed = await filled(stage)
  // Kafka has no such topic yet: nothing can be published.
  await using relay = await stage.relay(maintaining(outbox, byAgeAlone))
  await waitUntil(async () => String(await namesOf(outbox)) === '301,401,501', {
    what: 'unpublished partitions to be dropped',
    deadlineMs: 20_000,
  })
  await relay.stop('SIGKILL')
  await stage.makeTopic()
  await using successor = await stage.relay()
  await drained(successor, stage)
  const { lost } = findingsIn(await stage.dump(), committed, 3)
  expect(lost).toBe(300)
}, 90_000)

test('left as it is, the same relay loses nothing there', async () => {
  await using outbox = await testOutbox()
  await makeSmall(outbox)
  await using stage = await openStage(known.polling, { outbox })
  const committed = await filled(stage)
  await using relay = await stage.relay(maintaining(outbox))
  await waitUntil(async () => (await relay.status()).partitions.lastRun !== null, {
    what: 'a run',
    deadlineMs: 20_000,
  })
  await relay.stop('SIGKILL')
  await stage.makeTopic()
  await using successor = await stage.relay(maintaining(outbox))
  await waitUntil(async () => String(await namesOf(outbox)) === '301,401,501', {
    what: 'the published partitions to go',
    deadlineMs: 30_000,
  })
  expect(successor.logged('maintenance_failed')).toBeUndefined()
  expect(findingsIn(await stage.dump(), committed, 3)).toMatchObject(kept)
}, 90_000)
