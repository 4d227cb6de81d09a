import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { pause } from 'service/backoff'

// A TCP proxy on the loopback that can be told to behave like a bad network. Bytes that it swallows
// are gone, so a connection that lost some never comes back to life, even after the fault: it stays
// open and silent in that direction, as one does whose peer has vanished. Only new ones are good.

export type NetworkFault =
  /** Every connection is closed, and new ones are too. */
  | { kind: 'cut' }
  /** Nothing comes through, either way, and nobody is told. */
  | { kind: 'half-open' }
  /** What is asked arrives; the answers do not. */
  | { kind: 'answers-dropped' }
  | { kind: 'latency'; delayMs: number }
  /** All connections together, each way. */
  | { kind: 'slow'; bytesPerSecond: number }
  /** Each connection is reset once this many more bytes have passed, in the middle of a message. */
  | { kind: 'reset-mid-frame'; afterBytes: number }

type Direction = 'request' | 'answer'
type Link = { client: Socket; server: Socket; silent: Set<Direction>; resetAfter: number }

export class TcpProxy {
  readonly port: number
  readonly #targetPort: number
  readonly #listener: Server
  readonly #links = new Set<Link>()
  readonly #mute = new Set<Socket>()
  #fault: NetworkFault | undefined
  #healed = new AbortController()
  #requestBytes = 0
  #swallowedBytes = 0
  /** Until when what a slow line was given is on its way, each way. */
  readonly #busyUntilMs: Record<Direction, number> = { request: 0, answer: 0 }

  private constructor(listener: Server, port: number, targetPort: number) {
    this.port = port
    this.#targetPort = targetPort
    this.#listener = listener
    listener.on('connection', (client) => this.#accept(client))
  }

  static async open(targetPort: number, port = 0): Promise<TcpProxy> {
    const listener = createServer({ allowHalfOpen: true, noDelay: true })
    listener.listen(port, '127.0.0.1')
    await once(listener, 'listening')
    const address = listener.address()
    if (address === null || typeof address === 'string') throw new Error('no address')
    return new TcpProxy(listener, address.port, targetPort)
  }

  /** Bytes that clients have sent and that were passed on. */
  get requestBytes(): number {
    return this.#requestBytes
  }

  /** Bytes of both sides that were not passed on, since it was opened. */
  get swallowedBytes(): number {
    return this.#swallowedBytes
  }

  begin(fault: NetworkFault): void {
    this.#fault = fault
    for (const link of this.#links) this.#afflict(link, fault)
  }

  heal(): void {
    this.#fault = undefined
    this.#healed.abort()
    this.#healed = new AbortController()
    Object.assign(this.#busyUntilMs, { request: 0, answer: 0 })
    for (const link of this.#links) link.resetAfter = Infinity
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { client, server } of this.#links)
      for (const each of [client, server]) each.destroy()
    for (const each of this.#mute) each.destroy()
    this.#listener.close()
    await once(this.#listener, 'close')
  }

  #accept(client: Socket): void {
    client.on('error', () => client.destroy())
    const fault = this.#fault
    if (fault?.kind === 'cut') return void client.resetAndDestroy()
    if (fault?.kind === 'half-open') {
      this.#mute.add(client)
      client.on('data', (chunk) => (this.#swallowedBytes += chunk.length))
      client.on('close', () => this.#mute.delete(client))
      return
    }
    const server = connect({ port: this.#targetPort, host: '127.0.0.1', noDelay: true })
    const link: Link = { client, server, silent: new Set(), resetAfter: Infinity }
    this.#links.add(link)
    // Of a direction that swallows bytes the end is swallowed too: nobody is told of anything.
    client.on('close', () => this.#ended(link, server, 'request'))
    server.on('error', () => link.silent.has('answer') || client.resetAndDestroy())
    server.on('close', () => this.#ended(link, client, 'answer'))
    if (fault !== undefined) this.#afflict(link, fault)
    void this.#pump(link, 'request')
    void this.#pump(link, 'answer')
  }

  #ended(link: Link, other: Socket, direction: Direction): void {
    if (!link.silent.has(direction)) other.destroy()
    if (link.client.destroyed && link.server.destroyed) this.#links.delete(link)
  }

  #afflict(link: Link, fault: NetworkFault): void {
    if (fault.kind === 'cut') {
      link.client.resetAndDestroy()
      link.server.resetAndDestroy()
    } else if (fault.kind === 'half-open') link.silent = new Set(['request', 'answer'])
    else if (fault.kind === 'answers-dropped') link.silent.add('answer')
    else if (fault.kind === 'reset-mid-frame') link.resetAfter = fault.afterBytes
  }

  async #pump(link: Link, direction: Direction): Promise<void> {
    const [from, to] =
      direction === 'request' ? [link.client, link.server] : [link.server, link.client]
    try {
      for await (const chunk of from as AsyncIterable<Buffer>)
        await this.#pass(link, direction, chunk)
      if (!link.silent.has(direction)) to.end()
    } catch {
      // One side is gone; closing it has told the other.
    }
  }

  async #pass(link: Link, direction: Direction, chunk: Buffer): Promise<void> {
    const fault = this.#fault
    if (fault?.kind === 'latency') await wait(fault.delayMs)
    if (fault?.kind === 'slow') {
      const nowMs = performance.now()
      const takesMs = (chunk.length / fault.bytesPerSecond) * 1_000
      const untilMs = Math.max(nowMs, this.#busyUntilMs[direction]) + takesMs
      this.#busyUntilMs[direction] = untilMs
      // What waits when it heals goes on at once.
      await pause(untilMs - nowMs, this.#healed.signal)
    }
    if (link.silent.has(direction)) {
      this.#swallowedBytes += chunk.length
      return
    }
    const to = direction === 'request' ? link.server : link.client
    if (chunk.length > link.resetAfter) {
      to.write(chunk.subarray(0, link.resetAfter), () => {
        link.client.resetAndDestroy()
        link.server.resetAndDestroy()
      })
      return
    }
    link.resetAfter -= chunk.length
    if (direction === 'request') this.#requestBytes += chunk.length
    if (!to.write(chunk)) await once(to, 'drain', { signal: AbortSignal.timeout(600_000) })
  }
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms).unref())
}
