import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { httpProblem, Problem } from './problem.ts'
import { traceOf } from './trace.ts'

/** What went wrong below a route, as the caller may see it. Anything unknown is a bare 500. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error
  // Errors of express and its body parser carry a type or a status, and a message not for show.
  const { type, status } = error as { type?: string; status?: number }
  if (type === 'entity.parse.failed') return httpProblem('malformed_json')
  if (type === 'entity.too.large') {
    return httpProblem('body_too_large', { headers: { Connection: 'close' } })
  }
  if (type === 'charset.unsupported' || type === 'encoding.unsupported') {
    return httpProblem('unsupported_media_type')
  }
  if (error instanceof URIError || status === 400) return httpProblem('malformed_request')
  return httpProblem('internal_error')
}

/** Answers a request that never comes to a route. */
export function answerRefusal(
  response: ServerResponse,
  code: 'malformed_request' | 'expectation_failed',
): void {
  const problem = httpProblem(code)
  response.writeHead(problem.kind.status, {
    'Content-Type': 'application/problem+json',
    Connection: 'close',
  })
  response.end(JSON.stringify(problem.body(traceOf({}).traceId)))
}

/** Answers what Node could not read as HTTP, in the same form as every other refusal. */
export function answerClientError(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
  const tooLarge = error.code === 'HPE_HEADER_OVERFLOW'
  const problem = httpProblem(tooLarge ? 'headers_too_large' : 'malformed_request')
  const body = JSON.stringify(problem.body(traceOf({}).traceId))
  socket.end(
    `HTTP/1.1 ${problem.kind.status} ${tooLarge ? 'Request Header Fields Too Large' : 'Bad Request'}\r\n` +
      'Content-Type: application/problem+json\r\nConnection: close\r\n' +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
}
