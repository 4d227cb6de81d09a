import { findFreePorts, openDataFolder, startKafka } from 'local-stack'
import { ensureTestJars, testJava } from 'local-stack/test-servers'
import { waitUntil } from 'local-stack/wait-until'
import { describe, expect, test } from 'vitest'
import { testedModes } from './test-modes.ts'
import { ownServers } from './test-server.ts'
import { advances, drained, openStage, sending, sendsBy, undisturbed } from './test-stage.ts'
import { kept } from './test-topic.ts'
import { drained as drainedInTheEnd, residentBytes, writeHistory } from './wal/test-wal-relay.ts'

// As `promises.kafka.test.ts`, of what takes long.

describe.each(testedModes.filter(({ anyKafka }) => anyKafka))('in mode $name', (mode) => {
  test.runIf(ownServers)(
    'Kafka killed, and back later, is waited for',
    async () => {
      await using folder = await openDataFolder()
      const [port = 0, controllerPort = 0] = await findFreePorts(2)
      const jars = await ensureTestJars()
      // A killed broker is let back in only when its old session has run out.
      const properties = { 'broker.session.timeout.ms': 1_500, 'broker.heartbeat.interval.ms': 300 }
      const where = { dataFolder: folder, jars, port, controllerPort, properties, heapMb: 256 }
      const java = testJava()
      const start = () => startKafka({ ...where, java })
      let broker = await start()
      await using cleanup = new AsyncDisposableStack()
      cleanup.defer(() => broker.stop())
      await using stage = await openStage(mode, { brokers: broker.brokers })
      await stage.makeTopic()
      await using relay = await stage.relay()
      await sendsBy(relay, mode)
      await using writing = await stage.keepWriting(20)
      await advances(relay)
      broker.kill('SIGKILL')
      await broker.exited
      const fails = async () => (await relay.status()).lastError?.code === 'publish_failed'
      await waitUntil(fails, { what: 'the failure to be told', deadlineMs: 30_000 })
      expect((await fetch(`${relay.url}/readyz`)).status).toBe(200)
      broker = await start()
      await advances(relay)
      await writing.stop()
      await drained(relay, stage)
      expect(await stage.findings()).toMatchObject(kept)
    },
    180_000,
  )
})

describe.each(testedModes)('in mode $name', (mode) => {
  test('a column added and dropped, and a partition attached, under load', async () => {
    await using stage = await openStage(mode)
    await stage.makeTopic()
    await using relay = await stage.relay()
    await sendsBy(relay, mode)
    await using writing = await stage.keepWriting(10)
    await using session = await stage.session()
    for (const text of [
      'alter table outbox.events add column tenant text',
      "alter table outbox.events alter column tenant set default 'x'",
      'alter table outbox.events add column weight integer not null default 1',
      'alter table outbox.events drop column tenant',
      'create table outbox.fresh (like outbox.events including all excluding identity)',
      `alter table outbox.events attach partition outbox.fresh
        for values from (100000001) to (200000001)`,
      "select setval('outbox.events_position_seq', 100000000)",
    ]) {
      await advances(relay)
      await session.sql(text)
    }
    await advances(relay)
    await advances(relay)
    await writing.stop()
    await drained(relay, stage)
    expect(await sending(relay, stage)).toEqual(undisturbed(mode))
    expect(await stage.findings()).toMatchObject({ ...kept, repeated: 0 })
  }, 90_000)

  test('200,000 rows in one transaction pass through a heap of 96 MB', async () => {
    await using stage = await openStage(mode)
    await stage.makeTopic()
    const { aggregateType } = stage
    const heap = { NODE_OPTIONS: '--max-old-space-size=96', RELAY_LEASE_MS: '10000' }
    await using relay = await stage.relay(heap)
    await sendsBy(relay, mode)
    await using writer = await stage.session()
    const history = { aggregateType, accounts: 200, from: 1, to: 1_000, payloadBytes: 500 }
    await writeHistory(writer, history)
    await drainedInTheEnd(relay, writer)
    expect(await sending(relay, stage)).toEqual(undisturbed(mode))
    expect(await stage.findings()).toMatchObject(kept)
    process.stdout.write(`resident ${Math.round((await residentBytes(relay)) / 1e6)} MB\n`)
  }, 240_000)
})
