import { StackError } from '../errors.ts'
import { ensureJars, haveJars } from '../kafka/jars.ts'
import { findJava, hasMaven } from '../kafka/java.ts'
import { supervise } from '../processes/supervisor.ts'
import { reports, stopping } from '../server-steps.ts'
import type { Start } from '../start.ts'
import type { Step } from '../steps.ts'
import { connectJars, startConnect } from './connect.ts'

const name = 'Kafka Connect'

/** The address given, or that of a worker started now. Throws `java_missing`. */
export async function useConnect(step: Step, start: Start, brokers: string[]): Promise<string> {
  const { config, environment, folder, signal, cleanup, steps } = start
  if (config.given.connectUrl !== undefined) {
    step.detail = 'given by CONNECT_URL'
    return config.given.connectUrl
  }
  const port = config.ports.connect
  const java = requireJava(config.cacheDir, environment)
  const jars = await ensureJars({
    set: connectJars,
    cacheFolder: config.cacheDir,
    environment,
    progress: step.progress,
    signal,
  })
  step.progress('starting')
  const launch = () =>
    startConnect({ dataFolder: folder, jars, java, brokers, port, quickStart: true, signal })
  const worker = await supervise({ name, launch, ...reports(steps, signal) })
  cleanup.defer(() => stopping(steps, name, [worker]))
  const { url, pid } = worker.first
  step.detail = `${url}, pid ${pid}`
  return url
}

function requireJava(cacheDir: string, environment: NodeJS.ProcessEnv): string {
  const found = findJava(environment)
  const fetchable = haveJars(cacheDir, connectJars) || hasMaven(environment)
  if ('java' in found && fetchable) return found.java
  const missing = 'missing' in found ? found.missing : 'no mvn on PATH to fetch it with'
  throw new StackError(
    'java_missing',
    `Kafka Connect needs Java 17 or newer with Maven: ${missing}. Install them, or set CONNECT_URL ` +
      'to a Kafka Connect of yours.',
  )
}
