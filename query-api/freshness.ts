import { type ConsistencyToken, decodeToken } from 'command-api/token'
import { pause } from 'service/backoff'
import { httpProblem, Problem } from 'service/problem'
import type { ApiAnswer, ApiRequest } from 'service/route'
import { problem } from './problems.ts'

// A read that brings a token is answered from a state at or above every account the token names, or
// says that it is not. It is compared with the versions of the projection it reads from, and waits
// for exactly the token's accounts, and no longer than its caller does.

const defaultWaitSeconds = 2
const longestWaitSeconds = 30
const firstPollMs = 2
const slowestPollMs = 25
const laggingShown = 5

export type FreshnessSettings = {
  /** The versions that the projection has; accounts it does not know are left out. */
  versionsOf: (accounts: readonly string[]) => Promise<ReadonlyMap<string, number>>
  /** Aborts when the process stops: whoever waits is answered with what there is. */
  signal: AbortSignal
  /** Reads that may wait at one time. 256 by default. */
  waiterLimit?: number
  /** Monotonic milliseconds. */
  now?: () => number
}

export type Freshness = {
  /** `answer`, once the request's token is reached or its wait is over, with headers saying which. */
  read(request: ApiRequest, answer: () => Promise<ApiAnswer>): Promise<ApiAnswer>
  waiters(): number
}

type Lag = { account: string; have: number; want: number }

export function openFreshness(settings: FreshnessSettings): Freshness {
  const { versionsOf, signal, waiterLimit = 256, now = () => performance.now() } = settings
  let waiters = 0

  async function lagsOf(token: ConsistencyToken): Promise<Lag[]> {
    const versions = await versionsOf([...token.keys()])
    return [...token]
      .map(([account, want]) => ({ account, want, have: versions.get(account) ?? 0 }))
      .filter(({ have, want }) => have < want)
  }

  async function waitFor(
    token: ConsistencyToken,
    waitMs: number,
    hangUp: AbortSignal,
  ): Promise<Lag[]> {
    const deadline = now() + waitMs
    let lags = await lagsOf(token)
    if (lags.length === 0 || waitMs === 0) return lags
    if (waiters >= waiterLimit) {
      throw problem('too_many_waiters', { headers: { 'Retry-After': '1' } })
    }
    waiters += 1
    const ended = AbortSignal.any([signal, hangUp])
    try {
      for (let pollMs = firstPollMs; lags.length > 0;) {
        const leftMs = deadline - now()
        if (leftMs <= 0 || ended.aborted) return lags
        await pause(Math.min(pollMs, leftMs), ended)
        pollMs = Math.min(pollMs * 1.5, slowestPollMs)
        lags = await lagsOf(token)
      }
      return lags
    } finally {
      waiters -= 1
    }
  }

  return {
    waiters: () => waiters,
    async read(request, answer) {
      const token = tokenOf(request)
      if (token === undefined) return answer()
      const strict = isStrict(request)
      const preferred = preferredWaitSeconds(request.header('Prefer'))
      const waitSeconds = preferred ?? defaultWaitSeconds
      const lags = await waitFor(token, waitSeconds * 1_000, request.signal)
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
