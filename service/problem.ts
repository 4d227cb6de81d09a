/** One field at fault: a JSON pointer into the body, or the name of a header or parameter. */
export type FieldError = { pointer: string; message: string }

/** What a problem of one code always says: its HTTP status and its title. */
export type ProblemKind = { status: number; title: string }

export type ProblemDetails = {
  detail?: string
  errors?: readonly FieldError[]
  /** Members beside the standard ones, such as `available` and `requested`. */
  extra?: Readonly<Record<string, unknown>>
  headers?: Readonly<Record<string, string>>
}

/** The body of an answer of type application/problem+json (RFC 9457). */
export type ProblemBody = {
  type: string
  title: string
  status: number
  code: string
  detail?: string
  errors?: readonly FieldError[]
  traceId: string
}

/** A refusal with a stable code; thrown anywhere below a route, shown to the caller as it is. */
export class Problem extends Error {
  readonly code: string
  readonly kind: ProblemKind
  readonly details: ProblemDetails

  constructor(code: string, kind: ProblemKind, details: ProblemDetails = {}) {
    super(details.detail ?? kind.title)
    this.name = 'Problem'
    this.code = code
    this.kind = kind
    this.details = details
  }

  body(traceId: string): ProblemBody {
    const { detail, errors, extra } = this.details
    return {
      type: `urn:sluice:problem:${this.code}`,
      title: this.kind.title,
      status: this.kind.status,
      code: this.code,
      ...(detail === undefined ? {} : { detail }),
      ...(errors === undefined ? {} : { errors }),
      ...extra,
      traceId,
    }
  }
}

/** Makes a catalogue's thrower: `const problem = catalogue(kinds); throw problem('code', {...})`. */
export function catalogue<Kinds extends Record<string, ProblemKind>>(kinds: Kinds) {
  return (code: keyof Kinds & string, details?: ProblemDetails) =>
    new Problem(code, kinds[code] as ProblemKind, details)
}

/** The refusals that any of our HTTP services can give. */
export const httpProblem = catalogue({
  invalid_request: { status: 400, title: 'The request is not as its schema says' },
  malformed_json: { status: 400, title: 'The body is not JSON' },
  malformed_request: { status: 400, title: 'The request is not HTTP as this server reads it' },
  invalid_header: { status: 400, title: 'A header is not as it must be' },
  unauthenticated: { status: 401, title: 'No valid access key was given' },
  not_allowed: { status: 403, title: 'Your role may not do this' },
  route_not_found: { status: 404, title: 'There is no such route' },
  method_not_allowed: { status: 405, title: 'This route does not take this method' },
  body_too_large: { status: 413, title: 'The body is too large' },
  headers_too_large: { status: 431, title: 'The headers are too large' },
  expectation_failed: {
    status: 417,
    title: 'The Expect header names what this server does not do',
  },
  unsupported_media_type: { status: 415, title: 'The body must be application/json' },
  internal_error: { status: 500, title: 'The server failed; nothing about why is shown here' },
  unavailable: { status: 503, title: 'The service cannot answer at present' },
})
