import {
  brokerList,
  httpUrl,
  port,
  postgresUrl,
  readEnvironment,
  serviceEnvironment,
  wholeNumber,
} from 'service/environment'
import { validate as isCron } from 'node-cron'
import { z } from 'zod'
import { modes, whyNot } from './modes.ts'
import type { RetentionSettings } from './retention/plan.ts'

/** `direct` encodes its record batches itself, at a part of the cost; both promise the same. */
const producer = z
  .enum(['kafkajs', 'direct'], { error: 'must be direct or kafkajs' })
  .default('direct')

const settings = serviceEnvironment({
  RELAY_PORT: port(4030),
  WRITE_DATABASE_URL: postgresUrl,
  CDC_DATABASE_URL: postgresUrl.optional(),
  MAINTENANCE_DATABASE_URL: postgresUrl.optional(),
  CONNECT_URL: httpUrl.optional(),
  KAFKA_BROKERS: brokerList,
  KAFKA_PRODUCER: producer,
  RELAY_MODE: z.enum(modes, { error: 'must be polling, wal or debezium' }).optional(),
  RELAY_LEASE_MS: wholeNumber(5_000, { min: 200, max: 300_000 }),
  RELAY_POLL_BUSY_MS: wholeNumber(5, { min: 1, max: 60_000 }),
  RELAY_POLL_IDLE_MS: wholeNumber(50, { min: 1, max: 60_000 }),
  RELAY_STANDSTILL_MS: wholeNumber(30_000, { min: 1_000, max: 3_600_000 }),
  RELAY_BATCH_ROWS: wholeNumber(1_000, { min: 1, max: 20_000 }),
  PARTITION_POSITIONS: wholeNumber(10_000_000, { min: 100, max: 1_000_000_000 }),
  PARTITIONS_AHEAD: wholeNumber(10, { min: 2, max: 1_000 }),
  RETENTION_SECONDS: wholeNumber(86_400, { min: 0, max: 1_000_000_000 }),
  OUTBOX_MAX_MB: wholeNumber(50_000, { min: 0, max: 1_000_000_000 }),
  MAINTENANCE_SCHEDULE: z
    .string()
    .refine(isCron, { error: 'must be a cron expression, such as * * * * *' })
    .default('* * * * *'),
})

export type Config = z.output<typeof settings>

export const variables = settings.superRefine((config, context) => {
  const missing = whyNot(config.RELAY_MODE ?? 'polling', config)
  if (missing !== undefined) {
    context.addIssue({ code: 'custom', path: ['RELAY_MODE'], message: missing })
  }
})

/**
 * Settings of the relay. WRITE_DATABASE_URL is that of the role sluice_relay, CDC_DATABASE_URL the
 * same database as sluice_cdc. Without RELAY_MODE the mode stays what it was, polling at first.
 */
export const readConfig = (environment?: NodeJS.ProcessEnv): Config =>
  readEnvironment(variables, environment)

export const retentionOf = (config: Config): RetentionSettings => ({
  positions: BigInt(config.PARTITION_POSITIONS),
  ahead: config.PARTITIONS_AHEAD,
  retentionSeconds: config.RETENTION_SECONDS,
  maxBytes: config.OUTBOX_MAX_MB * 1_000_000,
})
