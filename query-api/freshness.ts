import { type ConsistencyToken, decodeToken } from 'command-api/token'
import { httpProblem, Problem } from 'service/problem'
import type { ApiAnswer, ApiRequest } from 'service/route'
import { type Lag, LagWatch, type LagWatchSettings } from './lag-watch.ts'
import { problem } from './problems.ts'
import type { Projection } from './projection.ts'
import type { Queryable } from './transaction.ts'

// A read that brings a token is answered from a state at or above every account the token names, or
// says that it is not. It is compared with the versions of the projection it reads from, and waits
// for exactly the token's accounts, and no longer than its caller does.

const defaultWaitSeconds = 2
const longestWaitSeconds = 30
const laggingShown = 5

/** A freshness for each projection that is read from. */
export type Freshnesses = { of(versions: Versions): Freshness; waiters(): number }

/** Of a projection, or of several that one answer is taken from. */
export type Versions = Pick<Projection, 'versions'>

/** An account is as far as it is in the one of them that is least far with it. */
export function leastOf(projections: readonly Versions[]): Versions {
  return {
    async versions(database, accounts) {
      const all = await Promise.all(projections.map((each) => each.versions(database, accounts)))
      return new Map(
        accounts.map((id) => [id, Math.min(...all.map((versions) => versions.get(id) ?? 0))]),
      )
    },
  }
}

export function openFreshnesses(
  reader: Queryable,
  { signal }: Pick<LagWatchSettings, 'signal'>,
): Freshnesses {
  const open = new Map<Versions, Freshness>()
  return {
    of(projection) {
      const versionsOf: LagWatchSettings['versionsOf'] = (accounts) =>
        projection.versions(reader, accounts)
      const freshness = open.get(projection) ?? openFreshness({ versionsOf, signal })
      open.set(projection, freshness)
      return freshness
    },
    waiters: () => [...open.values()].reduce((sum, { waiters }) => sum + waiters(), 0),
  }
}

export type Freshness = {
  /** `answer`, once the request's token is reached or its wait is over, with headers saying which. */
  read(request: ApiRequest, answer: () => Promise<ApiAnswer>): Promise<ApiAnswer>
  waiters(): number
}

export function openFreshness(settings: LagWatchSettings): Freshness {
  const watch = new LagWatch(settings)
  return {
    waiters: () => watch.waiting,
    async read(request, answer) {
      const token = tokenOf(request)
      if (token === undefined) return answer()
      const strict = isStrict(request)
      const preferred = preferredWaitSeconds(request.header('Prefer'))
      const waitSeconds = preferred ?? defaultWaitSeconds
      const hangUp = () => request.signal
      const lags = await watch.lagsOf({ token, waitMs: waitSeconds * 1_000, hangUp })
      const headers = {
        ...(preferred === undefined ? {} : { 'Preference-Applied': `wait=${preferred}` }),
        ...consistencyHeaders(lags),
      }
      if (strict && lags.length > 0) {
        throw problem('projection_late', { headers: { ...headers, 'Retry-After': '1' } })
      }
      return withHeaders(headers, answer)
    },
  }
}

function tokenOf(request: ApiRequest): ConsistencyToken | undefined {
  const text = request.header('Consistency-Token')
  if (text === undefined) return undefined
  const token = decodeToken(text)
  if (token === undefined) throw problem('invalid_token')
  return token
}

function isStrict(request: ApiRequest): boolean {
  const mode = request.header('Consistency-Mode')
  if (mode === undefined || mode.toLowerCase() === 'strict') return mode !== undefined
  throw httpProblem('invalid_header', {
    errors: [{ pointer: 'Consistency-Mode', message: 'must be strict, or not be there' }],
  })
}

/**
 * The seconds of `Prefer: wait=N` (RFC 7240), at most 30; undefined without one. A preference that
 * cannot be read is ignored, as the RFC says, and so are all others.
 */
export function preferredWaitSeconds(header: string | undefined): number | undefined {
  for (const [preference] of (header ?? '').matchAll(/(?:[^,"]|"(?:[^"\\]|\\.)*")+/g)) {
    const match = /^\s*wait\s*=\s*(?:"(\d{1,9})"|(\d{1,9}))\s*(?:;|$)/i.exec(preference)
    const digits = match?.[1] ?? match?.[2]
    if (digits !== undefined) return Math.min(Number(digits), longestWaitSeconds)
  }
  return undefined
}

function consistencyHeaders(lags: readonly Lag[]): Record<string, string> {
  if (lags.length === 0) return { Consistency: 'fresh' }
  const shown = lags.slice(0, laggingShown)
  const lagging = shown.map(({ account, have, want }) => `${account}=${have}/${want}`)
  return { Consistency: 'stale', 'Consistency-Lagging': lagging.join(', ') }
}

/** A refusal (an account not found yet, say) is told how fresh it is, too. */
async function withHeaders(
  headers: Record<string, string>,
  answer: () => Promise<ApiAnswer>,
): Promise<ApiAnswer> {
  try {
    const given = await answer()
    return { ...given, headers: { ...given.headers, ...headers } }
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    const { code, kind, details } = error
    throw new Problem(code, kind, { ...details, headers: { ...details.headers, ...headers } })
  }
}
