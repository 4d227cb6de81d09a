import type { RoleName, Secrets } from './secrets.ts'
import type { ServiceName } from './services.ts'

export type WiringOptions = {
  host: string
  auth: 'on' | 'off'
  ports: { commandApi: number; queryApi: number; relay: number }
  /** URLs of any role; each service gets its own role's name and password in its place. */
  databases: { write: string; read: string }
  brokers: string[]
  /** Where Kafka Connect answers, if there is one for the relay to drive. */
  connectUrl?: string | undefined
  secrets: Pick<Secrets, 'roles' | 'cursorSecret' | 'queryApiKey'>
  accessKeysFile: string
}

export type Wiring = Record<ServiceName, { url: string; env: Record<string, string> }>

/** Where each service answers, and the variables by which they find their servers and each other. */
export function wireServices(options: WiringOptions): Wiring {
  const { host, auth, ports, databases, secrets } = options
  const shared = { HOST: host, AUTH: auth, ACCESS_KEYS_FILE: options.accessKeysFile }
  const kafka = { KAFKA_BROKERS: options.brokers.join(',') }
  const role = (name: RoleName, side: 'write' | 'read') =>
    asRole(databases[side], name, secrets.roles[name])
  const commandApiUrl = httpUrl(host, ports.commandApi)
  const relayUrl = httpUrl(host, ports.relay)
  return {
    'outbox-relay': {
      url: relayUrl,
      env: {
        ...shared,
        ...kafka,
        RELAY_PORT: String(ports.relay),
        WRITE_DATABASE_URL: role('sluice_relay', 'write'),
        CDC_DATABASE_URL: role('sluice_cdc', 'write'),
        MAINTENANCE_DATABASE_URL: role('sluice_maintenance', 'write'),
        ...(options.connectUrl === undefined ? {} : { CONNECT_URL: options.connectUrl }),
      },
    },
    'command-api': {
      url: commandApiUrl,
      env: {
        ...shared,
        COMMAND_API_PORT: String(ports.commandApi),
        WRITE_DATABASE_URL: role('sluice_command', 'write'),
      },
    },
    'query-api': {
      url: httpUrl(host, ports.queryApi),
      env: {
        ...shared,
        ...kafka,
        QUERY_API_PORT: String(ports.queryApi),
        READ_DATABASE_URL: role('sluice_query', 'read'),
        PROJECTOR_DATABASE_URL: role('sluice_projector', 'read'),
        CURSOR_SECRET: secrets.cursorSecret,
        COMMAND_API_URL: commandApiUrl,
        COMMAND_API_KEY: secrets.queryApiKey,
        RELAY_URL: relayUrl,
      },
    },
  }
}

/** The same database as another role. */
export function asRole(url: string, role: string, password: string): string {
  const changed = new URL(url)
  changed.username = role
  changed.password = password
  return changed.href
}

/** How this machine reaches what listens on `host`. */
function httpUrl(host: string, port: number): string {
  if (host === '0.0.0.0' || host === '::') return `http://127.0.0.1:${port}`
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}
