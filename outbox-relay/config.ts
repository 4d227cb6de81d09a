import {
  brokerList,
  port,
  postgresUrl,
  readEnvironment,
  serviceEnvironment,
  wholeNumber,
} from 'service/environment'
import { z } from 'zod'

/** Until the relay reads the log itself or drives a connector, polling is the one mode there is. */
const mode = z
  .enum(['polling', 'wal', 'debezium'], { error: 'must be polling' })
  .refine((value) => value === 'polling', 'only polling is supported by this version')
  .default('polling')

/** `direct` encodes its record batches itself, at a part of the cost; both promise the same. */
const producer = z
  .enum(['kafkajs', 'direct'], { error: 'must be direct or kafkajs' })
  .default('kafkajs')

export const variables = serviceEnvironment({
  RELAY_PORT: port(4030),
  WRITE_DATABASE_URL: postgresUrl,
  KAFKA_BROKERS: brokerList,
  KAFKA_PRODUCER: producer,
  RELAY_MODE: mode,
  RELAY_LEASE_MS: wholeNumber(5_000, { min: 200, max: 300_000 }),
  RELAY_POLL_BUSY_MS: wholeNumber(5, { min: 1, max: 60_000 }),
  RELAY_POLL_IDLE_MS: wholeNumber(50, { min: 1, max: 60_000 }),
  RELAY_BATCH_ROWS: wholeNumber(1_000, { min: 1, max: 20_000 }),
})

export type Config = z.output<typeof variables>

/** Settings of the relay. WRITE_DATABASE_URL is that of the role sluice_relay. */
export const readConfig = (environment?: NodeJS.ProcessEnv): Config =>
  readEnvironment(variables, environment)
