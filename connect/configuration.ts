import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { ConnectError } from './errors.ts'

// The connector's configuration is outbox-connector.json, where README.md says what each group is
// for; here its placeholders are filled.

export type ConnectorSettings = {
  /** Of the role sluice_cdc: postgres://user:password@host:port/database?sslmode=... */
  databaseUrl: string
  /** The logical slot, which exists already. */
  slotName: string
  connectorName: string
  /** What the producer itself refuses to send, in bytes; Kafka's default without. */
  recordLimitBytes?: number
  /** Debezium's own batch sizes and waits instead of ours: what a benchmark compares with. */
  tuning?: 'debezium-defaults'
}

/** As Kafka Connect takes it: every value is text. */
export type ConnectorConfiguration = Readonly<Record<string, string>>

/** The name under which Debezium keeps offsets, and the prefix of its heartbeat's topic. */
export const topicPrefix = 'sluice'

const template = z
  .record(z.string(), z.string())
  .parse(JSON.parse(readFileSync(new URL('./outbox-connector.json', import.meta.url), 'utf8')))

/** What is left out for Debezium's defaults. */
const tuned = [
  'max.batch.size',
  'max.queue.size',
  'poll.interval.ms',
  'producer.override.batch.size',
  'producer.override.linger.ms',
]

/** As in a PostgreSQL URL; the files are those of the machine on which the worker runs. */
const certificates = ['sslrootcert', 'sslcert', 'sslkey']

// As PostgreSQL means them: only the last two check whom they talk to. Node's driver has a word of
// its own for encryption that checks nothing, which PostgreSQL calls require.
const tlsModes = new Map([
  ['disable', 'disable'],
  ['prefer', 'prefer'],
  ['require', 'require'],
  ['no-verify', 'require'],
  ['verify-ca', 'verify-ca'],
  ['verify-full', 'verify-full'],
])

const slotPattern = /^[a-z0-9_]{1,63}$/
/** Plain enough for a URL's path, for an MBean's tag and for a metric's label. */
const connectorPattern = /^[A-Za-z0-9_.-]{1,200}$/

/**
 * The whole configuration of one connector. Throws `connector_settings_invalid`, whose message
 * names the setting and never repeats the URL.
 */
export function connectorConfiguration(settings: ConnectorSettings): ConnectorConfiguration {
  const { databaseUrl, slotName, connectorName, recordLimitBytes, tuning } = settings
  if (!slotPattern.test(slotName)) {
    throw invalid(`slot name ${JSON.stringify(slotName)}: lower case, digits and underscores only`)
  }
  requireConnectorName(connectorName)
  const url = parseDatabaseUrl(databaseUrl)
  const values: Readonly<Record<string, string>> = {
    '<CONNECTOR_NAME>': connectorName,
    '<SLOT_NAME>': slotName,
    '<DATABASE_HOST>': url.hostname,
    '<DATABASE_PORT>': url.port === '' ? '5432' : url.port,
    '<DATABASE_USER>': decode(url.username),
    '<DATABASE_PASSWORD>': decode(url.password),
    '<DATABASE_NAME>': decode(url.pathname.slice(1)),
    '<TLS_MODE>': tlsMode(url),
  }
  const left = tuning === 'debezium-defaults' ? new Set(tuned) : new Set<string>()
  const filled = Object.entries(template)
    .filter(([name]) => !left.has(name))
    .map(([name, value]) => [name, fill(value, values)])
  const files = certificates.flatMap((name) => {
    const path = url.searchParams.get(name)
    return path === null ? [] : [[`database.${name}`, path]]
  })
  const limit =
    recordLimitBytes === undefined
      ? []
      : [['producer.override.max.request.size', String(recordLimitBytes)]]
  return Object.fromEntries([...filled, ...limit, ...files]) as ConnectorConfiguration
}

/** Throws `connector_settings_invalid`. */
export function requireConnectorName(name: string): void {
  if (connectorPattern.test(name)) return
  throw invalid(`connector name ${JSON.stringify(name)}: letters, digits, dots and dashes only`)
}

export function invalid(message: string): ConnectError {
  return new ConnectError('connector_settings_invalid', message)
}

/** What was filled in is never searched again: a password may look like a placeholder. */
function fill(text: string, values: Readonly<Record<string, string>>): string {
  return text.replaceAll(/<[A-Z_]+>/g, (placeholder) => {
    const value = values[placeholder]
    if (value === undefined) throw invalid(`outbox-connector.json: nothing fills ${placeholder}`)
    return value
  })
}

function parseDatabaseUrl(text: string): URL {
  const url = URL.parse(text)
  const complete =
    url !== null &&
    /^postgres(ql)?:$/.test(url.protocol) &&
    url.hostname !== '' &&
    url.username !== '' &&
    url.pathname.length > 1
  if (!complete) throw invalid('database URL: postgres://user:password@host:port/database')
  return url
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw invalid('database URL: a percent sign in it must be written %25')
  }
}

/** Without one: encrypted where the server can, which is PostgreSQL's own default. */
function tlsMode(url: URL): string {
  const asked = url.searchParams.get('sslmode') ?? 'prefer'
  const mode = tlsModes.get(asked)
  if (mode !== undefined) return mode
  throw invalid(`database URL: sslmode must be one of ${[...tlsModes.keys()].join(', ')}`)
}
