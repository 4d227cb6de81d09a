import type { Kysely } from 'kysely'
import type { ReadDatabase } from 'migrations/read'
import { httpProblem, type Problem } from 'service/problem'
import type { ApiAnswer, ApiRequest, Route } from 'service/route'
import { z } from 'zod'
import { type CursorPlace, decodeCursor, encodeCursor } from './cursor.ts'
import { databaseFault } from './database-fault.ts'
import type { Freshness, Versions } from './freshness.ts'
import { problem } from './problems.ts'
import type { Projection } from './projection.ts'
import type { Queryable } from './transaction.ts'

// What the reads of every projection share: freshness, parameters, cursors, quarantine.

export type ReadSettings = {
  /** Of the role sluice_query. */
  reader: Queryable
  /** The same, for statements that are put together. */
  database: Kysely<ReadDatabase>
  /** A read waits for the projection that it is answered from. */
  freshnessOf: (versions: Versions) => Freshness
  cursorSecret: string
}

/**
 * Of the role sluice_query's sessions. Every read has an index to go by: what the planner believes of a
 * table that has just grown, or of a filter that few accounts pass, is no reason to read all of it.
 */
export const readerSessionSettings = {
  statement_timeout: '5s',
  enable_seqscan: 'off',
  // What is asked often is in memory.
  random_page_cost: '1.1',
  // PostgreSQL 17 says by a very high cost that a scan is off, and would compile for that.
  jit: 'off',
} as const

/** A read of one projection. Parameters are judged before anything waits. */
export function readRoute(
  freshness: Freshness,
  path: string,
  answer: (request: ApiRequest) => () => Promise<ApiAnswer>,
): Route {
  return {
    method: 'GET',
    path,
    handle: (request) => orUnavailable(() => freshness.read(request, answer(request))),
  }
}

/** Postgres being away is no fault of ours to hide: the caller may come again. */
export async function orUnavailable(answer: () => Promise<ApiAnswer>): Promise<ApiAnswer> {
  try {
    return await answer()
  } catch (error) {
    if (databaseFault(error) !== 'passing') throw error
    throw httpProblem('unavailable', {
      detail: 'the read database does not answer',
      headers: { 'Retry-After': '1' },
    })
  }
}

export const accountParams = z.strictObject({
  id: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -'),
})
export const noQuery = z.strictObject({})
export const moment = z.iso.datetime('must be a time in UTC, such as 2026-11-21T08:00:00Z')

/** Of every list. */
export const pageParams = {
  limit: z
    .string()
    .regex(/^([1-9]\d?|100)$/, 'must be from 1 to 100')
    .transform(Number)
    .default(50),
  cursor: z.string().optional(),
}

/** Where a list goes on; undefined at its beginning. Throws `invalid_cursor`. */
export function cursorPosition(
  secret: string,
  place: CursorPlace,
  cursor: string | undefined,
): string | undefined {
  if (cursor === undefined) return undefined
  const after = decodeCursor(secret, place, cursor)
  if (after !== undefined) return after
  throw problem('invalid_cursor', {
    detail: 'take `next` as it was given, and leave the filters as they were',
  })
}

/** A list's `next`: the cursor behind its last item, where there are more. */
export function nextCursor(
  secret: string,
  place: CursorPlace,
  { more, last }: { more: boolean; last: string | undefined },
): string | null {
  return more && last !== undefined ? encodeCursor(secret, place, last) : null
}

/** What to throw for an account that is not in a read model: it may be, but for its quarantine. */
export async function accountMissing(
  reader: Queryable,
  projection: Projection,
  id: string,
): Promise<Problem> {
  const { rows } = await reader.query<{ code: string }>({
    name: 'quarantine-of',
    text: 'select code from read.quarantine where projection = $1 and account_id = $2',
    values: [projection.name, id],
  })
  const quarantined = rows[0]?.code ?? null
  return problem('account_not_found', { headers: quarantineHeader([{ id, quarantined }]) })
}

/** `Quarantined: acc-1=version_gap, acc-2=lost_tail`, of up to five accounts; nothing when sound. */
export function quarantineHeader(
  accounts: readonly { id: string; quarantined: string | null }[],
): Record<string, string> {
  const named = accounts.filter(({ quarantined }) => quarantined !== null).slice(0, 5)
  if (named.length === 0) return {}
  return { Quarantined: named.map(({ id, quarantined }) => `${id}=${quarantined}`).join(', ') }
}
