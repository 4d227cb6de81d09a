import type { AddressInfo } from 'node:net'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import express, { type Express, type Request, type RequestHandler, type Response } from 'express'
import helmet from 'helmet'
import type { Access, Caller } from './access.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { answerClientError, answerRefusal, problemOf } from './fault.ts'
import { parseJsonBody } from './json-body.ts'
import { httpProblem } from './problem.ts'
import type { ApiAnswer, ApiRequest, Route } from './route.ts'
import { sendStream } from './stream.ts'
import { traceOf, type Trace } from './trace.ts'

/** Empty when ready; else one sentence per thing that is late or away. */
export type Readiness = () => Promise<readonly string[]>

export type HttpService = { url: string; port: number; [Symbol.asyncDispose](): Promise<void> }

export type HttpSettings = {
  host: string
  port: number
  routes: readonly Route[]
  access: Access
  readiness: Readiness
  log: Log
  metrics: Metrics
  /** 64 kB by default. */
  bodyLimitBytes?: number
  /** How long the reader of a stream may read nothing before it is cut. 10 s by default. */
  stallMs?: number
}

const drainMs = 10_000
const defaultStallMs = 10_000

/**
 * Serves routes with what every service shares: health, metrics, access, problem+json for each
 * refusal, one log line per request. Dispose stops accepting, lets running requests finish for up
 * to 10 s, then cuts them.
 */
export async function serveHttp(settings: HttpSettings): Promise<HttpService> {
  // A request without Host comes to our own answer, not to Node's empty one.
  const limits = { headersTimeout: 10_000, requestTimeout: 30_000, requireHostHeader: false }
  const handle = app(settings)
  const server = createServer(limits, (request, response) => {
    // Express answers an address that it cannot read by a page of its own.
    if (URL.canParse(request.url ?? '', 'http://localhost')) handle(request, response)
    else answerRefusal(response, 'malformed_request')
  })
  server.on('checkExpectation', (_request, response: ServerResponse) =>
    answerRefusal(response, 'expectation_failed'),
  )
  server.on('clientError', answerClientError)
  await listen(server, settings.host, settings.port)
  const { port } = server.address() as AddressInfo
  const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host
  return {
    url: `http://${host}:${port}`,
    port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeIdleConnections()
      const cut = setTimeout(() => server.closeAllConnections(), drainMs)
      await closed
      clearTimeout(cut)
    },
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port, backlog: 1_024 }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

function app(settings: HttpSettings): Express {
  const server = express()
  server.disable('x-powered-by')
  server.disable('etag')
  server.set('query parser', 'simple')
  server.set('case sensitive routing', true)
  server.set('strict routing', true)
  const security = securityHeaders()
  const routes = [...healthRoutes(settings), ...settings.routes]
  const open = new Set(routes.filter((route) => route.open).map((route) => route.path))
  server.use((request, response, next) => {
    for (const [name, value] of security) response.setHeader(name, value)
    observe(settings, request, response)
    const malformed = open.has(request.path) ? 'replaced' : 'refused'
    response.locals.trace = traceOf(request.headers, malformed)
    response.setHeader('Correlation-Id', response.locals.trace.correlationId)
    next()
  })
  for (const route of routes) register(server, route, settings)
  for (const path of new Set(routes.map((route) => route.path))) {
    server.all(path, (request) => {
      throw methodNotAllowed(request.method, path, routes)
    })
  }
  server.use((request: Request) => {
    throw httpProblem('route_not_found', { detail: `${request.method} ${request.path}` })
  })
  server.use(errorAnswer(settings.log))
  return server
}

/** What helmet sets: the same for every answer, so it is asked once. */
function securityHeaders(): [name: string, value: string][] {
  const headers = new Map<string, string>()
  const recorder = {
    setHeader: (name: string, value: string) => headers.set(name, value),
    removeHeader: (name: string) => headers.delete(name),
  }
  helmet()({} as IncomingMessage, recorder as unknown as ServerResponse, (error) => {
    if (error !== undefined) throw error
  })
  return [...headers]
}

/** Access is checked before the body is read: a stranger costs us no parsing. */
function register(server: Express, route: Route, settings: HttpSettings): void {
  const verb = route.method.toLowerCase() as 'get' | 'post' | 'put' | 'patch' | 'delete'
  const limit = route.bodyLimitBytes ?? settings.bodyLimitBytes ?? 65_536
  const readBody = express.raw({ limit, type: 'application/json' })
  const ignoreBody: RequestHandler = (_request, _response, next) => next()
  server[verb](
    route.path,
    (request, response, next) => {
      response.locals.route = route.path
      const anonymous = { name: 'anonymous', role: 'customer' } satisfies Caller
      response.locals.caller = route.open
        ? anonymous
        : settings.access.identify(request.headers.authorization)
      if (!route.open && hasBody(request) && !isJson(request)) {
        throw httpProblem('unsupported_media_type')
      }
      next()
    },
    route.open ? ignoreBody : readBody,
    async (request, response) => {
      const answer = await route.handle(apiRequest(request, response))
      if (answer.stream === undefined) send(response, answer)
      else await stream(response, answer, settings)
    },
  )
}

function hasBody(request: Request): boolean {
  return (
    request.headers['transfer-encoding'] !== undefined ||
    Number(request.headers['content-length'] ?? 0) > 0
  )
}

/** JSON has no other encoding than UTF-8: naming it changes nothing, and any other is refused. */
function isJson(request: Request): boolean {
  if (request.is('application/json') === false) return false
  const [, charset] =
    /;\s*charset\s*=\s*"?([^\s";]*)/i.exec(request.get('content-type') ?? '') ?? []
  return charset === undefined || charset.toLowerCase() === 'utf-8'
}

/** As it was read: bytes, and none where the request had no body. */
function bodyOf({ body }: Request): unknown {
  return body instanceof Uint8Array && body.length > 0 ? parseJsonBody(body) : undefined
}

function apiRequest(request: Request, response: Response): ApiRequest {
  const { caller, trace } = response.locals as { caller: Caller; trace: Trace }
  let signal: AbortSignal | undefined
  return {
    method: request.method,
    path: request.path,
    params: request.params as Record<string, string>,
    query: request.query as Record<string, string>,
    body: bodyOf(request),
    header: (name) => {
      const value = request.headers[name.toLowerCase()]
      return Array.isArray(value) ? value.join(', ') : value
    },
    caller,
    trace,
    // Most requests never ask, and it costs as much as their routing.
    get signal() {
      return (signal ??= hangUpSignal(response))
    },
  }
}

function hangUpSignal(response: Response): AbortSignal {
  if (response.destroyed) return AbortSignal.abort()
  const hangUp = new AbortController()
  response.once('close', () => {
    if (!response.writableFinished) hangUp.abort()
  })
  return hangUp.signal
}

function send(response: Response, answer: ApiAnswer): void {
  const text = answer.text ?? JSON.stringify(answer.body)
  sendHead(response, answer)
  response.end(text)
}

/** Once the head is out, all that a fault can do is to end the stream unfinished. */
async function stream(
  response: Response,
  answer: ApiAnswer,
  { log, stallMs = defaultStallMs }: HttpSettings,
): Promise<void> {
  sendHead(response, answer)
  // Else the connection would stay open behind it, and a stopping process wait for that.
  response.setHeader('Connection', 'close')
  try {
    await sendStream(response, answer.stream!, stallMs)
  } catch (error) {
    log.error({ event: 'stream_failed', err: error }, 'a fault, in the middle of a stream')
    response.destroy()
  }
}

function sendHead(response: Response, answer: ApiAnswer): void {
  response.statusCode = answer.status
  response.setHeader('Content-Type', answer.contentType ?? 'application/json')
  response.setHeader('Cache-Control', 'no-store')
  for (const [name, value] of Object.entries(answer.headers ?? {})) response.setHeader(name, value)
}

function methodNotAllowed(method: string, path: string, routes: readonly Route[]) {
  const allowed = routes.filter((route) => route.path === path).map((route) => route.method)
  return httpProblem('method_not_allowed', {
    detail: `${path} takes ${allowed.join(', ')}, not ${method}`,
    headers: { Allow: allowed.join(', ') },
  })
}

function errorAnswer(log: Log) {
  return (
    error: unknown,
    _request: Request,
    response: Response,
    next: (error: unknown) => void,
  ) => {
    if (response.headersSent) return next(error)
    const problem = problemOf(error)
    if (problem.kind.status === 500) log.error({ event: 'request_failed', err: error }, 'a fault')
    const trace = (response.locals.trace as Trace | undefined) ?? traceOf({})
    send(response, {
      status: problem.kind.status,
      headers: problem.details.headers ?? {},
      body: problem.body(trace.traceId),
      contentType: 'application/problem+json',
    })
  }
}

function observe(settings: HttpSettings, request: Request, response: Response): void {
  const startedMs = performance.now()
  response.once('close', () => {
    const route = (response.locals.route as string | undefined) ?? 'none'
    const ms = performance.now() - startedMs
    const labels = { method: request.method, route, status: statusOf(response) }
    settings.metrics.requestSeconds.observe(labels, ms / 1_000)
    const level =
      route === '/livez' || route === '/readyz' || route === '/metrics' ? 'debug' : 'info'
    const trace = response.locals.trace as Trace | undefined
    const caller = (response.locals.caller as Caller | undefined)?.name
    settings.log[level](
      {
        event: 'request',
        ...labels,
        ms: Math.round(ms * 10) / 10,
        traceId: trace?.traceId,
        caller,
      },
      'request',
    )
  })
}

/** Who hung up was answered nothing, whatever the status would have been: 499, as nginx has it. */
function statusOf(response: Response): number {
  return response.writableFinished ? response.statusCode : 499
}

function healthRoutes({ readiness, metrics }: HttpSettings): Route[] {
  return [
    {
      method: 'GET',
      path: '/livez',
      open: true,
      handle: () => ({ status: 200, body: { live: true } }),
    },
    {
      method: 'GET',
      path: '/readyz',
      open: true,
      handle: async () => {
        const late = await readiness()
        return { status: late.length === 0 ? 200 : 503, body: { ready: late.length === 0, late } }
      },
    },
    {
      method: 'GET',
      path: '/metrics',
      open: true,
      handle: async () => ({
        status: 200,
        text: await metrics.registry.metrics(),
        contentType: metrics.registry.contentType,
      }),
    },
  ]
}
