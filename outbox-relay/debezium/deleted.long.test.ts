import { waitUntil } from 'local-stack/wait-until'
import { remove } from 'connect/connector'
import { testConnect } from 'local-stack/test-connect'
import { expect, test } from 'vitest'
import { known } from '../test-modes.ts'
import { advances, drained, openStage, sendsBy } from '../test-stage.ts'
import { kept } from '../test-topic.ts'

test('a connector that somebody deletes is noticed, and polling sends', async () => {
  const mode = known.debezium
  await using stage = await openStage(mode)
  await stage.makeTopic()
  await using relay = await stage.relay()
  await sendsBy(relay, mode)
  await using writing = await stage.keepWriting(5)
  await advances(relay)
  const { connector } = await relay.status()
  await remove({ url: await testConnect() }, connector?.name ?? '')
  await waitUntil(async () => (await relay.status()).source === 'polling', {
    what: 'polling to send',
    deadlineMs: 30_000,
  })
  await advances(relay)
  await writing.stop()
  await drained(relay, stage)
  expect(await stage.findings()).toMatchObject(kept)
}, 90_000)
