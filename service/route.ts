import { z } from 'zod'
import type { Caller } from './access.ts'
import { httpProblem, type FieldError } from './problem.ts'
import type { Trace } from './trace.ts'

export type ApiRequest = {
  /** As in an outbox row's source: what the caller asked, without its query. */
  method: string
  path: string
  params: Readonly<Record<string, string>>
  query: Readonly<Record<string, string>>
  /** The parsed JSON body; undefined when the request had none. */
  body: unknown
  header(name: string): string | undefined
  caller: Caller
  trace: Trace
  /** Aborts when the caller hangs up before the answer was sent: nobody waits for it any more. */
  signal: AbortSignal
}

export type ApiAnswer = {
  status: number
  headers?: Readonly<Record<string, string>>
  /** Sent as JSON. */
  body?: unknown
  /** Sent as it is, in place of `body`: a stored answer, or another media type. */
  text?: string
  /** Sent piece by piece in place of both, for as long as there are some and the reader reads. */
  stream?: AsyncIterable<string>
  contentType?: string
}

export type Route = {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** Express's path syntax: `/accounts/:id`. */
  path: string
  /**
   * Answers without an access key, and whatever else the request says: its body is not read, and a
   * malformed Correlation-Id not minded. Only for routes that show nothing of anybody's.
   */
  open?: boolean
  /** The largest body it takes, where that is not the service's own limit. */
  bodyLimitBytes?: number
  handle(request: ApiRequest): ApiAnswer | Promise<ApiAnswer>
}

/**
 * Parses a part of a request, or throws 400 `invalid_request` with a pointer for each fault.
 * `within` is put before the pointers: '' for the body, the parameter's kind for others.
 */
export function parsePart<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  within = '',
): z.output<Schema> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  throw httpProblem('invalid_request', { errors: result.error.issues.flatMap(fieldErrors(within)) })
}

function fieldErrors(within: string) {
  return (issue: z.core.$ZodIssue): FieldError[] => {
    const pointer = within + issue.path.map((part) => `/${escapePointer(String(part))}`).join('')
    if (issue.code !== 'unrecognized_keys') return [{ pointer, message: issue.message }]
    return issue.keys.map((key) => ({
      pointer: `${pointer}/${escapePointer(key.slice(0, 64))}`,
      message: 'is not a known field',
    }))
  }
}

/** RFC 6901: `~` and `/` inside a name are written `~0` and `~1`. */
function escapePointer(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1')
}
