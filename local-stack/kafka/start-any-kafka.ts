import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DataFolder } from '../data-folder.ts'
import { StackError } from '../errors.ts'
import type { Child } from '../processes/child.ts'
import { ensureJars, haveJars } from './jars.ts'
import { findJava, hasMaven } from './java.ts'
import { startKafka } from './kafka.ts'

export type AnyKafkaOptions = {
  dataFolder: DataFolder
  cacheDir: string
  port: number
  controllerPort: number
  environment: NodeJS.ProcessEnv
  progress: (text: string) => void
  signal: AbortSignal
}

export type AnyKafka =
  | { kind: 'process'; brokers: string[]; created: boolean; child: Child }
  | { kind: 'container'; brokers: string[]; stop(): Promise<void> }

/**
 * Starts Kafka by Java where there is one, else by Docker where it answers. Throws `java_missing`
 * when there is neither, and `kafka_runtime_changed` when the folder's data are of the other kind.
 */
export async function startAnyKafka(options: AnyKafkaOptions): Promise<AnyKafka> {
  const { dataFolder, cacheDir, port, controllerPort, environment, progress, signal } = options
  const found = javaAndMaven(cacheDir, environment)
  if ('java' in found) {
    if (runsInContainer(dataFolder.path)) throw runtimeChanged(dataFolder, 'Docker', 'Java')
    const jars = await ensureJars({ cacheFolder: cacheDir, environment, progress, signal })
    progress('starting')
    const { java } = found
    const kafka = await startKafka({ dataFolder, jars, java, port, controllerPort, signal })
    return { kind: 'process', brokers: kafka.brokers, created: kafka.created, child: kafka }
  }
  // Loaded only here: it is large, and most starts need none of it.
  const containers = await import('../containers.ts')
  if (!(await containers.dockerAnswers())) {
    throw new StackError(
      'java_missing',
      `Kafka needs Java 17 or newer with Maven, or Docker: ${found.missing}, and Docker does not ` +
        'answer. Install one of them, or set KAFKA_BROKERS to a Kafka of yours.',
    )
  }
  if (existsSync(dataFolder.file('kafka', 'storage'))) {
    throw runtimeChanged(dataFolder, 'Java', 'Docker')
  }
  progress(`${found.missing}: starting ${containers.kafkaImage} by Docker`)
  const volume = `sluice-kafka-${createHash('sha256').update(dataFolder.path).digest('hex').slice(0, 12)}`
  mkdirSync(dataFolder.file('kafka'), { recursive: true })
  writeFileSync(containerMark(dataFolder.path), `${volume}\n`)
  const persistent = dataFolder.ephemeral ? {} : { volume }
  const owner = dataFolder.path
  const started = await containers.startKafkaContainer({ port, owner, signal, ...persistent })
  return { kind: 'container', ...started }
}

/** Are this folder's data those of a Kafka in a container? */
export function runsInContainer(dataFolder: string): boolean {
  return existsSync(containerMark(dataFolder))
}

function containerMark(dataFolder: string): string {
  return join(dataFolder, 'kafka', 'container-volume')
}

/** Going on beside the old data would look like a Kafka that has lost every record. */
function runtimeChanged({ path }: DataFolder, before: string, now: string): StackError {
  return new StackError(
    'kafka_runtime_changed',
    `the Kafka of ${path} ran by ${before}, and only ${now} is here now: bring ${before} back, or ` +
      'choose another SLUICE_DATA_DIR',
  )
}

function javaAndMaven(cacheDir: string, environment: NodeJS.ProcessEnv) {
  const found = findJava(environment)
  if ('missing' in found || haveJars(cacheDir) || hasMaven(environment)) return found
  return { missing: 'no mvn on PATH to fetch Kafka with' }
}
