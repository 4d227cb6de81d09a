import { httpProblem, Problem } from 'service/problem'
import { z } from 'zod'

// What every request to the relay by a person has in common.

export const reason = z
  .string()
  .trim()
  .regex(/^[^\0]{3,500}$/, 'must be 3 to 500 characters')

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
