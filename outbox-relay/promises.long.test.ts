import { findFreePorts, findJava, openDataFolder, startKafka } from 'local-stack'
import { ensureTestJars } from 'local-stack/test-servers'
import { waitUntil } from 'local-stack/wait-until'
import { describe, expect, test } from 'vitest'
import { testedModes } from './test-modes.ts'
import { ownServers } from './test-server.ts'
import { advances, drained, openStage, sendsBy } from './test-stage.ts'
import { kept } from './test-topic.ts'

// As `promises.kafka.test.ts`, of what takes long.

const java = findJava(process.env)

describe.each(testedModes.filter(({ anyKafka }) => anyKafka))('in mode $name', (mode) => {
  test.runIf('java' in java && ownServers)(
    'Kafka killed, and back later, is waited for',
    async () => {
      await using folder = await openDataFolder()
      const [port = 0, controllerPort = 0] = await findFreePorts(2)
      const jars = await ensureTestJars()
      // A killed broker is let back in only when its old session has run out.
      const properties = { 'broker.session.timeout.ms': 1_500, 'broker.heartbeat.interval.ms': 300 }
      const where = { dataFolder: folder, jars, port, controllerPort, properties, heapMb: 256 }
      const start = () => startKafka({ ...where, java: 'java' in java ? java.java : '' })
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
