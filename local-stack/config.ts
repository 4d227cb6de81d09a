import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { brokerList, httpUrl, port, postgresUrl, readEnvironment } from 'service/environment'
import { z } from 'zod'

const loopback = ['127.0.0.1', 'localhost', '::1']

const ports = {
  COMMAND_API_PORT: port(4010),
  QUERY_API_PORT: port(4020),
  RELAY_PORT: port(4030),
  POSTGRES_PORT: port(25432),
  KAFKA_PORT: port(29092),
  KAFKA_CONTROLLER_PORT: port(29093),
  CONNECT_PORT: port(28083),
}

/** What `npm start` itself reads; the services read the rest of the environment unchanged. */
const variables = z
  .object({
    ...ports,
    HOST: z.string().default('127.0.0.1'),
    AUTH: z.enum(['on', 'off']).default('on'),
    SLUICE_DATA_DIR: z.string().default('.sluice'),
    SLUICE_CACHE_DIR: z.string().optional(),
    XDG_CACHE_HOME: z.string().optional(),
    KAFKA_BROKERS: brokerList.optional(),
    MIGRATOR_WRITE_DATABASE_URL: postgresUrl.optional(),
    MIGRATOR_READ_DATABASE_URL: postgresUrl.optional(),
    CONNECT_URL: httpUrl.optional(),
    SLUICE_CONNECT: z.enum(['0', '1'], { error: 'must be 0 or 1' }).default('0'),
    /** The relay's own; which modes there are is for the relay to say. */
    RELAY_MODE: z.string().optional(),
  })
  .superRefine((settings, context) => {
    const refuse = (name: string, message: string) =>
      context.addIssue({ code: 'custom', path: [name], message })
    const { MIGRATOR_WRITE_DATABASE_URL: write, MIGRATOR_READ_DATABASE_URL: read } = settings
    if (write !== undefined && read === undefined) {
      refuse('MIGRATOR_READ_DATABASE_URL', 'needed beside MIGRATOR_WRITE_DATABASE_URL')
    }
    if (read !== undefined && write === undefined) {
      refuse('MIGRATOR_WRITE_DATABASE_URL', 'needed beside MIGRATOR_READ_DATABASE_URL')
    }
    if (settings.AUTH === 'off' && !loopback.includes(settings.HOST)) {
      refuse('AUTH', `off is allowed on loopback only, and HOST is ${settings.HOST}`)
    }
    const usedBy = new Map<number, string>()
    for (const name of Object.keys(ports) as (keyof typeof ports)[]) {
      const other = usedBy.get(settings[name])
      if (settings[name] === 0) refuse(name, 'must not be 0: the printed addresses name it')
      else if (other !== undefined) refuse(name, `is ${settings[name]}, as is ${other}`)
      usedBy.set(settings[name], name)
    }
  })

export type StackConfig = ReturnType<typeof readStackConfig>

/** Reads the settings of one start. Throws EnvironmentInvalid with every bad variable. */
export function readStackConfig(environment: NodeJS.ProcessEnv, ephemeral: boolean) {
  const settings = readEnvironment(variables, environment)
  const { MIGRATOR_WRITE_DATABASE_URL: write, MIGRATOR_READ_DATABASE_URL: read } = settings
  return {
    host: settings.HOST,
    auth: settings.AUTH,
    /** undefined: a temporary folder, removed at the end. */
    dataDir: ephemeral ? undefined : resolve(settings.SLUICE_DATA_DIR),
    cacheDir: cacheFolder(settings),
    ports: {
      commandApi: settings.COMMAND_API_PORT,
      queryApi: settings.QUERY_API_PORT,
      relay: settings.RELAY_PORT,
      postgres: settings.POSTGRES_PORT,
      kafka: settings.KAFKA_PORT,
      kafkaController: settings.KAFKA_CONTROLLER_PORT,
      connect: settings.CONNECT_PORT,
    },
    /** Whether a relay may come to need Kafka Connect. */
    needsConnect: settings.SLUICE_CONNECT === '1' || settings.RELAY_MODE === 'debezium',
    /** Servers of the user's own, used instead of starting one. */
    given: {
      brokers: settings.KAFKA_BROKERS,
      connectUrl: settings.CONNECT_URL,
      databases: write === undefined || read === undefined ? undefined : { write, read },
    },
  }
}

/** Where downloads are kept: outside any data folder, shared by all. */
export function cacheFolder(settings: {
  SLUICE_CACHE_DIR?: string | undefined
  XDG_CACHE_HOME?: string | undefined
}): string {
  if (settings.SLUICE_CACHE_DIR) return resolve(settings.SLUICE_CACHE_DIR)
  return join(settings.XDG_CACHE_HOME || join(homedir(), '.cache'), 'sluice')
}
