import { backoffMs, pause } from 'service/backoff'
import { z } from 'zod'
import { ConnectError, type ConnectErrorCode } from './errors.ts'

/** A Kafka Connect, and for how long its caller still wants an answer. */
export type Connect = {
  /** Such as `http://127.0.0.1:28083`; a user and a password in it are sent as basic access. */
  url: string
  signal?: AbortSignal | undefined
}

export type ConnectRequest = {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  path: string
  /** JSON text. */
  body?: string
  /** Values that no error may repeat, though Connect may repeat them to us. */
  secrets?: readonly string[]
  /** 30 s by default: before it takes a configuration, Connect tries it on the database. */
  timeoutMs?: number
}

/** What Connect said: a status below 300, or 404, or the 409 that means "exists already". */
export type ConnectAnswer = { status: number; body: string }

const busyPatienceMs = 30_000
const busyBackoff = { firstMs: 100, capMs: 2_000 }
const shownCharacters = 500

/**
 * One request, sent again with growing waits while Connect says that its workers are being
 * reassigned (409). Throws `connect_busy` after 30 s of that, `connect_unreachable`,
 * `connect_refused`, `connect_failed`, and the reason of the signal.
 */
export async function send(connect: Connect, request: ConnectRequest): Promise<ConnectAnswer> {
  const deadline = performance.now() + busyPatienceMs
  for (let refusals = 1; ; refusals += 1) {
    const answer = await sendOnce(connect, request)
    if (answer.status < 300 || answer.status === 404) return answer
    const said = messageOf(answer.body)
    if (answer.status !== 409) {
      throw failure(answer.status < 500 ? 'connect_refused' : 'connect_failed', request, said)
    }
    if (/already exists/.test(said)) return answer
    if (performance.now() >= deadline) throw failure('connect_busy', request, said)
    await pause(backoffMs(refusals, busyBackoff), connect.signal)
    connect.signal?.throwIfAborted()
  }
}

/** The answer's JSON, checked. Throws `connect_answer_malformed`. */
export function parseAnswer<Schema extends z.ZodType>(
  schema: Schema,
  { body }: ConnectAnswer,
  request: Pick<ConnectRequest, 'method' | 'path'>,
): z.output<Schema> {
  const result = schema.safeParse(jsonOf(body))
  if (result.success) return result.data
  const wrong = result.error.issues[0]?.path.join('.') ?? ''
  throw failure('connect_answer_malformed', request, wrong === '' ? 'not its JSON' : `at ${wrong}`)
}

/** An error about a request; without what the request held, which may be a password. */
export function failure(
  code: ConnectErrorCode,
  { method, path, secrets = [] }: Pick<ConnectRequest, 'method' | 'path' | 'secrets'>,
  said: string,
): ConnectError {
  const hidden = secrets
    .filter((secret) => secret !== '')
    .reduce((text, secret) => text.replaceAll(secret, '***'), said)
  const shown = hidden.slice(0, shownCharacters)
  return new ConnectError(code, `Kafka Connect, ${method} ${path}: ${shown}`)
}

async function sendOnce(connect: Connect, request: ConnectRequest): Promise<ConnectAnswer> {
  const { method, path, body, timeoutMs = 30_000 } = request
  const { address, headers } = addressOf(connect.url)
  connect.signal?.throwIfAborted()
  const timeout = AbortSignal.timeout(timeoutMs)
  const signal = connect.signal ? AbortSignal.any([connect.signal, timeout]) : timeout
  try {
    const response = await fetch(`${address}${path}`, {
      method,
      signal,
      headers: body === undefined ? headers : { ...headers, 'Content-Type': 'application/json' },
      ...(body === undefined ? {} : { body }),
    })
    return { status: response.status, body: await response.text() }
  } catch (error) {
    connect.signal?.throwIfAborted()
    const why = timeout.aborted ? `no answer in ${timeoutMs} ms` : reasonOf(error)
    throw failure('connect_unreachable', request, `${why} (${address})`)
  }
}

/** fetch takes no URL with a password, and says so by repeating it. */
function addressOf(text: string): { address: string; headers: Record<string, string> } {
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new ConnectError(
      'connector_settings_invalid',
      'address of Kafka Connect: http://host:port is needed',
    )
  }
  const address = `${url.origin}${url.pathname.replace(/\/+$/, '')}`
  if (url.username === '') return { address, headers: {} }
  const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`
  const basic = Buffer.from(credentials).toString('base64')
  return { address, headers: { Authorization: `Basic ${basic}` } }
}

/** The network's own word for it, which fetch keeps one level down. */
function reasonOf(error: unknown): string {
  const { cause, message } = error as Error
  const { code, message: inner } = (cause ?? {}) as { code?: string; message?: string }
  return code ?? inner ?? message
}

const refusalSchema = z.object({ message: z.string() })

function messageOf(body: string): string {
  const result = refusalSchema.safeParse(jsonOf(body))
  return result.success ? result.data.message : body
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
