import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { DataFolder } from '../data-folder.ts'
import { StackError } from '../errors.ts'
import { ensureJars, haveJars } from './jars.ts'
import { findJava, hasMaven } from './java.ts'
import { startKafka, type Kafka } from './kafka.ts'

export type KafkaRuntimeOptions = {
  dataFolder: DataFolder
  cacheDir: string
  port: number
  controllerPort: number
  environment: NodeJS.ProcessEnv
  progress: (text: string) => void
  signal: AbortSignal
}

/** How Kafka can be started here, again if need be. */
export type KafkaRuntime =
  | { kind: 'process'; launch: () => Promise<Kafka> }
  | { kind: 'container'; launch: () => Promise<{ brokers: string[]; stop(): Promise<void> }> }

/**
 * Java where there is one, its jars fetched; else Docker where it answers; a folder stays with the one
 * it began with. Throws `java_missing` when there is neither, and `kafka_runtime_changed` when the
 * folder's own is gone.
 */
export async function chooseKafkaRuntime(options: KafkaRuntimeOptions): Promise<KafkaRuntime> {
  const { dataFolder, cacheDir, port, controllerPort, environment, progress, signal } = options
  const found = javaAndMaven(cacheDir, environment)
  const contained = runsInContainer(dataFolder.path)
  if ('java' in found && !contained) {
    const jars = await ensureJars({ cacheFolder: cacheDir, environment, progress, signal })
    const { java } = found
    const launch = () =>
      startKafka({ dataFolder, jars, java, port, controllerPort, quickStart: true, signal })
    return { kind: 'process', launch }
  }
  // Loaded only here: it is large, and most starts need none of it.
  const containers = await import('../containers.ts')
  const missing = 'missing' in found ? found.missing : 'the data are those of a container'
  if (!(await containers.dockerAnswers())) {
    if (contained) throw runtimeChanged(dataFolder, 'Docker, which does not answer now')
    throw new StackError(
      'java_missing',
      `Kafka needs Java 17 or newer with Maven, or Docker: ${missing}, and Docker does not ` +
        'answer. Install one of them, or set KAFKA_BROKERS to a Kafka of yours.',
    )
  }
  if (existsSync(dataFolder.file('kafka', 'storage'))) {
    throw runtimeChanged(dataFolder, `Java, and now there is ${missing}`)
  }
  progress(`${missing}: starting ${containers.kafkaImage} by Docker`)
  const volume = volumeOf(dataFolder)
  const persistent = dataFolder.ephemeral ? {} : { volume }
  const owner = dataFolder.path
  const launch = () => containers.startKafkaContainer({ port, owner, signal, ...persistent })
  return { kind: 'container', launch }
}

/** Are this folder's data those of a Kafka in a container? */
export function runsInContainer(dataFolder: string): boolean {
  return existsSync(containerMark(dataFolder))
}

/** Drawn once per folder: a removed folder's volume may still be there, and its events are not ours. */
function volumeOf(dataFolder: DataFolder): string {
  const mark = containerMark(dataFolder.path)
  if (existsSync(mark)) return readFileSync(mark, 'utf8').trim()
  const volume = `sluice-kafka-${randomBytes(6).toString('hex')}`
  mkdirSync(dirname(mark), { recursive: true })
  writeFileSync(mark, `${volume}\n`)
  return volume
}

function containerMark(dataFolder: string): string {
  return join(dataFolder, 'kafka', 'container-volume')
}

/** Going on beside the old data would look like a Kafka that has lost every record. */
function runtimeChanged({ path }: DataFolder, by: string): StackError {
  return new StackError(
    'kafka_runtime_changed',
    `the Kafka of ${path} ran by ${by}: bring it back, or choose another SLUICE_DATA_DIR`,
  )
}

function javaAndMaven(cacheDir: string, environment: NodeJS.ProcessEnv) {
  const found = findJava(environment)
  if ('missing' in found || haveJars(cacheDir) || hasMaven(environment)) return found
  return { missing: 'no mvn on PATH to fetch Kafka with' }
}
