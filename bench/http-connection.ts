import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { BenchError } from './errors.ts'

// HTTP/1.1 over one kept-alive socket, one request at a time, no pipelining. Just enough of it to
// talk to our own services, so that making the load costs a small part of what answering it does.

export type HttpRequest = {
  method: 'GET' | 'POST'
  path: string
  /** Whole lines, each ended by CR LF. */
  headers: string
  body?: string
}

export type HttpAnswer = { status: number; head: string; body: string }

export class HttpConnection {
  readonly #socket: Socket
  #received = ''
  #closed = false
  #waiting: { resolve: (answer: HttpAnswer) => void; reject: (error: Error) => void } | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setNoDelay(true).setEncoding('latin1')
    socket.on('data', (text: string) => this.#take(text))
    socket.on('error', (error) => this.#waiting?.reject(error))
    socket.on('close', () => {
      this.#closed = true
      this.#waiting?.reject(new Error('the service closed the connection'))
    })
  }

  static async open(port: number): Promise<HttpConnection> {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    return new HttpConnection(socket)
  }

  /** Services close what was idle for some seconds; nothing can be sent then. */
  get closed(): boolean {
    return this.#closed
  }

  send({ method, path, headers, body = '' }: HttpRequest): Promise<HttpAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>()
    this.#waiting = { resolve, reject }
    const entity =
      body === '' ? '' : `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`
    this.#socket.write(
      `${method} ${path} HTTP/1.1\r\nHost: bench\r\n${headers}${entity}\r\n${body}`,
    )
    return promise
  }

  [Symbol.dispose](): void {
    this.#waiting = undefined
    this.#socket.destroy()
  }

  #take(text: string): void {
    this.#received = this.#received === '' ? text : this.#received + text
    const received = this.#received
    const headEnd = received.indexOf('\r\n\r\n')
    if (headEnd === -1) return
    const head = received.slice(0, headEnd)
    const length = Number(headerOf(head, 'Content-Length') ?? Number.NaN)
    if (Number.isNaN(length)) {
      return this.#waiting?.reject(new BenchError('measurement_failed', 'an answer of no length'))
    }
    if (received.length < headEnd + 4 + length) return
    const waiting = this.#waiting
    this.#received = ''
    this.#waiting = undefined
    const body = received.slice(headEnd + 4)
    waiting?.resolve({ status: Number(head.slice(9, 12)), head, body })
  }
}

/** A header's value, its name written as our services write it. */
export function headerOf(head: string, name: string): string | undefined {
  const at = head.indexOf(`\r\n${name}: `)
  if (at === -1) return undefined
  const from = at + name.length + 4
  const end = head.indexOf('\r\n', from)
  return head.slice(from, end === -1 ? undefined : end)
}
