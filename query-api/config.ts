import {
  brokerList,
  httpUrl,
  port,
  postgresUrl,
  readEnvironment,
  serviceEnvironment,
  wholeNumber,
} from 'service/environment'
import { z } from 'zod'
import { readModels } from './projections/table.ts'
import { parseTiers } from './projections/tiers-edges.ts'
import { accountState } from './status.ts'

const known = [...readModels.map(({ projection }) => projection.name), accountState]

/** Names of projections, comma separated; `none` for none. */
const projections = z
  .string()
  .default(known.join(','))
  .transform((text) => (text.trim() === 'none' ? [] : text.split(',').map((name) => name.trim())))
  .refine((names) => names.every((name) => known.includes(name)), {
    message: `must be none, or some of ${known.join(', ')} (comma separated)`,
  })

/** Where balances are cut into tiers, by currency, in minor units: `EUR:0,10000,100000;JPY:0,100`. */
const tierEdges = z
  .string()
  .default('')
  .transform((text, context) => {
    const { edges, faults } = parseTiers(text)
    for (const message of faults) context.addIssue({ code: 'custom', message })
    return edges
  })

export const variables = serviceEnvironment({
  QUERY_API_PORT: port(4020),
  /** Which projections this process runs. */
  PROJECTIONS: projections,
  /** Off: no read model is answered here, only health, figures, and what operators do. */
  READS: z.enum(['on', 'off']).default('on'),
  TIERS: tierEdges,
  READ_DATABASE_URL: postgresUrl,
  PROJECTOR_DATABASE_URL: postgresUrl,
  KAFKA_BROKERS: brokerList,
  CURSOR_SECRET: z.string().min(32, 'must be at least 32 characters'),
  COMMAND_API_URL: httpUrl.optional(),
  RELAY_URL: httpUrl.optional(),
  /** An access key of the role service: with COMMAND_API_URL, the way to the feed. */
  COMMAND_API_KEY: z
    .string()
    .regex(/^[\x21-\x7e]{1,256}$/, 'must be an access key')
    .optional(),
  HEARTBEAT_SECONDS: wholeNumber(1, { min: 0, max: 3_600 }),
  /** Who is told what the projections queue to be told; empty: the log is. */
  NOTIFICATION_WEBHOOK_URL: z
    .union([z.literal(''), httpUrl], { error: 'must be a URL (http or https), or empty' })
    .default(''),
  /** How often all accounts are compared with the feed; 0: not at all. */
  SWEEP_SECONDS: wholeNumber(300, { min: 0, max: 86_400 }),
}).refine(({ PROJECTIONS, READS }) => PROJECTIONS.length > 0 || READS === 'on', {
  path: ['READS'],
  message: 'is off, and PROJECTIONS none: this process would do nothing',
})

/**
 * Settings of the query API. READ_DATABASE_URL is that of the role sluice_query,
 * PROJECTOR_DATABASE_URL that of sluice_projector, on the same database.
 */
export const readConfig = () => readEnvironment(variables)
