import { randomUUID } from 'node:crypto'
import { httpProblem } from './problem.ts'

/** What ties a request to whatever it causes. `traceparent` is W3C Trace Context, version 00. */
export type Trace = { traceparent: string; traceId: string; correlationId: string }

const traceparentPattern = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/
const correlationPattern = /^[A-Za-z0-9._:-]{1,128}$/

/** 32 digits. Node draws the randomness of uuids for many at a time, that of bytes anew each time. */
const randomHex = () => randomUUID().replaceAll('-', '')

/**
 * Takes the trace of a request, or begins one. A malformed traceparent is replaced, as its standard
 * says; a malformed Correlation-Id is refused (400 invalid_header), because it is the caller's own
 * name for the work and a silent new one would lose it; unless told to replace that too.
 */
export function traceOf(
  headers: Readonly<Record<string, unknown>>,
  malformed: 'refused' | 'replaced' = 'refused',
): Trace {
  const given = typeof headers['traceparent'] === 'string' ? headers['traceparent'] : ''
  const match = traceparentPattern.exec(given)
  const traceId = match?.[1] ?? randomHex()
  const traceparent = match ? given : `00-${traceId}-${randomHex().slice(16)}-01`
  const correlation = headers['correlation-id']
  if (typeof correlation === 'string' && correlationPattern.test(correlation)) {
    return { traceparent, traceId, correlationId: correlation }
  }
  if (correlation === undefined || malformed === 'replaced') {
    return { traceparent, traceId, correlationId: randomUUID() }
  }
  throw httpProblem('invalid_header', {
    detail: 'Correlation-Id takes 1 to 128 letters, digits, dots, colons, dashes, underscores',
    errors: [{ pointer: 'Correlation-Id', message: 'has another character or length' }],
  })
}
