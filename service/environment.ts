import { z } from 'zod'

/**
 * A process's settings could not be read. `problems` names every bad variable, so that one start
 * shows all of them; values are never repeated, because some are secrets.
 */
export class EnvironmentInvalid extends Error {
  readonly code = 'environment_invalid'
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(`bad environment:\n${problems.map((problem) => `  ${problem}`).join('\n')}`)
    this.name = 'EnvironmentInvalid'
    this.problems = problems
  }
}

/**
 * Reads settings once, at start. An empty variable counts as absent (compose files pass those).
 * Throws EnvironmentInvalid with every bad variable.
 */
export function readEnvironment<Schema extends z.ZodType>(
  schema: Schema,
  environment: NodeJS.ProcessEnv = process.env,
): z.output<Schema> {
  const given = Object.entries(environment).filter(([, value]) => value !== '')
  const result = schema.safeParse(Object.fromEntries(given))
  if (result.success) return result.data
  throw new EnvironmentInvalid(
    result.error.issues.map((issue) => {
      const name = issue.path.join('.')
      const absent = name !== '' && (environment[name] ?? '') === ''
      return `${name}${name === '' ? '' : ': '}${absent ? 'required and not set' : issue.message}`
    }),
  )
}

/** A TCP port; 0 lets the system choose one. */
export const port = (byDefault: number) =>
  z
    .string()
    .regex(/^\d{1,5}$/, 'must be a port number')
    .transform(Number)
    .refine((value) => value <= 65_535, 'must be a port number')
    .default(byDefault)

/** A whole number within bounds. */
export const wholeNumber = (byDefault: number, bounds: { min: number; max: number }) =>
  z
    .string()
    .regex(/^\d{1,12}$/, 'must be a whole number')
    .transform(Number)
    .refine(
      (value) => value >= bounds.min && value <= bounds.max,
      `must be from ${bounds.min} to ${bounds.max}`,
    )
    .default(byDefault)

/** A PostgreSQL connection URL. */
export const postgresUrl = z
  .string()
  .refine((value) => URL.canParse(value) && /^postgres(ql)?:$/.test(new URL(value).protocol), {
    message: 'must be a URL such as postgres://user:password@host:5432/database',
  })

export const httpUrl = z
  .string()
  .refine((value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol), {
    message: 'must be a URL such as http://127.0.0.1:4010',
  })

/** Kafka's bootstrap servers: `host:port`, comma separated. */
export const brokerList = z
  .string()
  .transform((value) => value.split(',').map((broker) => broker.trim()))
  .refine((brokers) => brokers.every((broker) => /^[^\s:,]+:\d{1,5}$/.test(broker)), {
    message: 'must be host:port, comma separated',
  })

const loopback = ['127.0.0.1', 'localhost', '::1']

/** What every HTTP process reads: where it listens, who may call it, how it logs. */
const listening = {
  HOST: z.string().default('127.0.0.1'),
  AUTH: z.enum(['on', 'off']).default('on'),
  ACCESS_KEYS_FILE: z.string().optional(),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace']).default('info'),
}

type Listening = z.output<z.ZodObject<typeof listening>>

/** Also where another variable is bad, so that one start shows all there is to mend. */
const always = () => true

/** Adds `listening` to a process's own variables, with the rules that hold between them. */
export function serviceEnvironment<Shape extends z.ZodRawShape>(shape: Shape) {
  return z
    .object({ ...listening, ...shape })
    .refine((settings) => isAuthAllowed(settings as unknown as Listening), {
      path: ['AUTH'],
      message: 'off is allowed on loopback only, and HOST is another address',
      when: always,
    })
    .refine((settings) => hasKeys(settings as unknown as Listening), {
      path: ['ACCESS_KEYS_FILE'],
      message: 'required while AUTH is on',
      when: always,
    })
}

const isAuthAllowed = ({ AUTH, HOST }: Listening) => AUTH !== 'off' || loopback.includes(HOST)
const hasKeys = ({ AUTH, ACCESS_KEYS_FILE: file }: Listening) =>
  AUTH === 'off' || file !== undefined
