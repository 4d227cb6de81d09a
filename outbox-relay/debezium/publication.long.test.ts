import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { known } from '../test-modes.ts'
import { drained, openStage, sendsBy } from '../test-stage.ts'
import { kept } from '../test-topic.ts'

// As `wal.long.test.ts`: a connector that lives and lacks rows.

const mode = known.debezium

test.each([
  'alter publication sluice_outbox drop table outbox.events',
  'alter publication sluice_outbox set (publish_via_partition_root = false)',
  "alter publication sluice_outbox set (publish = 'update')",
  "alter publication sluice_outbox set table outbox.events where (aggregatetype = 'other')",
])(
  'a connector that lives and lacks rows is noticed, and polling sends them: %s',
  async (change) => {
    await using stage = await openStage(mode)
    await stage.makeTopic()
    await using relay = await stage.relay()
    await sendsBy(relay, mode)
    await stage.insert(stage.history(3, 1, 2))
    await drained(relay, stage)
    await using session = await stage.session()
    await session.sql(change)
    await stage.insert(stage.history(3, 3, 5))
    await drained(relay, stage)
    expect(await stage.findings()).toMatchObject(kept)
    const refused = async () => {
      const { source, waitingFor } = await relay.status()
      return source === 'polling' && /publication sluice_outbox must/.test(waitingFor ?? '')
    }
    await waitUntil(refused, { what: 'it to be told', deadlineMs: 30_000 })
  },
  90_000,
)

// What was passed over comes late then: after the rows that the connector sent when it was back.
test('a change that is changed back before anybody looks is noticed all the same', async () => {
  await using stage = await openStage(mode)
  await stage.makeTopic()
  await using relay = await stage.relay()
  await sendsBy(relay, mode)
  await using session = await stage.session()
  await session.sql('alter publication sluice_outbox drop table outbox.events')
  await stage.insert(stage.history(3, 1, 2))
  await session.sql('alter publication sluice_outbox add table outbox.events')
  await stage.insert(stage.history(3, 3, 5))
  await drained(relay, stage)
  expect(await stage.findings()).toMatchObject({ ...kept, outOfOrder: expect.any(Number) })
  const ended = async () => {
    const { rows } = await session.client.query<{ reason: string }>(
      `select reason from outbox.audit where action = 'stream_ended'`,
    )
    return rows[0]?.reason
  }
  const reason = await waitUntil(ended, { what: 'it to be told' })
  expect(reason).toBe('publication sluice_outbox has been changed')
  await sendsBy(relay, mode)
}, 90_000)
