import { findFreePorts, openDataFolder, startKafka } from 'local-stack'
import { ensureTestJars, testJava } from 'local-stack/test-servers'
import { openProxy } from './test-proxy.ts'

/** A broker that can be reached only through a proxy, so that it can fall silent. */
export async function silentKafka() {
  await using cleanup = new AsyncDisposableStack()
  const dataFolder = cleanup.use(await openDataFolder())
  const [port = 0, controllerPort = 0] = await findFreePorts(2)
  const proxy = cleanup.use(await openProxy(port))
  const kafka = await startKafka({
    dataFolder,
    jars: await ensureTestJars(),
    java: testJava(),
    port,
    controllerPort,
    advertisedPort: proxy.port,
    quickStart: true,
  })
  cleanup.defer(kafka.stop)
  const kept = cleanup.move()
  return { proxy, brokers: kafka.brokers, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}
