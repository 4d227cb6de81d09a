import { httpProblem, Problem } from 'service/problem'
import type { ApiRequest } from 'service/route'
import { z } from 'zod'
import { problem } from './problems.ts'

// What every request to the relay by a person has in common.

export const reason = z
  .string()
  .trim()
  .regex(/^[^\0]{3,500}$/, 'must be 3 to 500 characters')

/** Throws 403 `not_allowed`. */
export function requireOperator({ caller }: ApiRequest): void {
  if (caller.role === 'operator') return
  throw problem('not_allowed', { detail: `this is for operators, and you are a ${caller.role}` })
}

/** What fails, unless it is a problem already, is the database that is away. */
export async function orUnavailable<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (cause) {
    if (cause instanceof Problem) throw cause
    const unavailable = httpProblem('unavailable', { detail: 'the write database is away' })
    throw Object.assign(unavailable, { cause })
  }
}
