import { Connection } from '@platformatic/kafka'
import { settledWithin } from 'service/backoff'
import { KafkaError } from './errors.ts'
import { within } from './within.ts'

export type ConnectionSettings = {
  clientId: string
  connectTimeoutMs: number
  /** For one request, from the call to the answer. */
  requestTimeoutMs: number
}

/** A call of the library, with the connection as its first argument. */
export type Call<T> = (connection: Connection) => Promise<T>

/**
 * One connection per broker, made by the library when it is first needed and again when the broker has
 * closed it. Nothing waits for ever: a watchdog of our own ends every wait, whatever becomes of the
 * library's timers, for a half-open connection answers nobody and fails nothing.
 */
export class BrokerConnections {
  readonly #settings: ConnectionSettings
  readonly #open = new Map<string, Promise<Connection>>()
  readonly #all = new Set<Connection>()
  #destroyed = false

  constructor(settings: ConnectionSettings) {
    this.#settings = settings
  }

  /** Connects where needed. Throws the library's error, or `broker_silent`. */
  async connect(address: string): Promise<Connection> {
    if (this.#destroyed) throw new KafkaError('broker_silent', 'the connections were given up')
    const known = this.#open.get(address)
    if (known !== undefined) return known
    const connecting = this.#connectNew(address)
    this.#open.set(address, connecting)
    connecting.catch(() => this.#forget(address, connecting))
    return connecting
  }

  /** Sends one request on a connection. Throws the library's error, or `broker_silent`, after `limitMs` too. */
  async request<T>(address: string, call: Call<T>, limitMs = Infinity): Promise<T> {
    const connection = await this.connect(address)
    return await this.sendNow(address, connection, call, limitMs)
  }

  /** As `request`, on a connection at hand: the request leaves before this returns. */
  sendNow<T>(
    address: string,
    connection: Connection,
    call: Call<T>,
    limitMs = Infinity,
  ): Promise<T> {
    const waitMs = Math.min(limitMs, this.#settings.requestTimeoutMs)
    return within(call(connection), waitMs, `an answer of ${address}`)
  }

  /** Cuts all connections; whatever waits on them fails. There are no others to come. */
  destroy(): void {
    this.#destroyed = true
    for (const connection of this.#all) cut(connection)
  }

  /** Resolves when all are closed, or after a few seconds. */
  async closed(): Promise<void> {
    const limitMs = this.#settings.connectTimeoutMs
    await settledWithin(Promise.allSettled(this.#open.values()), limitMs)
  }

  async #connectNew(address: string): Promise<Connection> {
    const { clientId, connectTimeoutMs, requestTimeoutMs } = this.#settings
    const { host, port } = parseAddress(address)
    const connection = new Connection(clientId, {
      connectTimeout: connectTimeoutMs,
      // Behind the watchdog's, so that a silent broker always fails in one way.
      requestTimeout: requestTimeoutMs + 1_000,
      maxInflights: 1,
    })
    this.#all.add(connection)
    // Without a listener an error would end the process; each request is told of it in any case.
    connection.on('error', () => {})
    const connecting = Promise.resolve(connection.connect(host, port))
    await within(connecting, 2 * connectTimeoutMs, `a connection to ${address}`).catch(
      (error: unknown) => {
        cut(connection)
        this.#all.delete(connection)
        throw error
      },
    )
    if (this.#destroyed) cut(connection)
    connection.once('close', () => {
      this.#all.delete(connection)
      this.#open.delete(address)
    })
    return connection
  }

  #forget(address: string, connecting: Promise<Connection>): void {
    if (this.#open.get(address) === connecting) this.#open.delete(address)
  }
}

/** `host:port`, where the host may be an IPv6 address in brackets. */
function parseAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':')
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
  return { host, port: Number(address.slice(colon + 1)) }
}

export function formatAddress({ host, port }: { host: string; port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function cut(connection: Connection): void {
  // Before `connect` there is no socket, whatever its type says.
  const socket = connection.socket as Connection['socket'] | undefined
  socket?.destroy()
}
