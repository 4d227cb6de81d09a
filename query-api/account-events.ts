import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import type { CursorPlace } from './cursor.ts'
import { openFreshness } from './freshness.ts'
import { problem } from './problems.ts'
import { accountParams, cursorPosition, nextCursor, pageParams, readRoute } from './reading.ts'
import type { ReadSettings } from './reading.ts'
import { type Feed, FeedUnavailable } from './quarantine/feed.ts'
import { feedMissing } from './quarantine/repairer.ts'
import { z } from 'zod'

// What happened to an account, as the command side recorded it: for who has to prove it. It comes
// from the feed and not from a read model, so no write can be missing, and no token has to wait.

const listQuery = z.strictObject(pageParams)

export type AccountEventsSettings = Pick<ReadSettings, 'cursorSecret'> & {
  signal: AbortSignal
  feed: Feed | undefined
}

export function accountEventsRoutes(settings: AccountEventsSettings): Route[] {
  const { signal } = settings
  const freshness = openFreshness({
    versionsOf: async (ids) => new Map(ids.map((id) => [id, Number.MAX_SAFE_INTEGER])),
    signal,
  })
  return [
    readRoute(freshness, '/accounts/:id/events', (request) => accountEvents(settings, request)),
  ]
}

function accountEvents({ feed, cursorSecret }: AccountEventsSettings, request: ApiRequest) {
  const { id } = parsePart(accountParams, request.params, 'path')
  const { limit, cursor } = parsePart(listQuery, request.query, 'query')
  const place: CursorPlace = { list: 'account-events', filters: { id } }
  const from = Number(cursorPosition(cursorSecret, place, cursor) ?? 1)
  return async (): Promise<ApiAnswer> => {
    if (feed === undefined) throw problem('feed_missing', { detail: feedMissing })
    const { items, next } = await orFeedMissing(() => feed.envelopes(id, { from, limit }))
    if (items.length === 0 && from === 1) throw problem('account_not_found')
    const last = items.at(-1)
    const body = {
      items,
      next: nextCursor(cursorSecret, place, { more: next !== null, last: String(next) }),
      version: last?.version ?? 0,
      asOf: last?.at ?? null,
    }
    return { status: 200, body }
  }
}

async function orFeedMissing<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask()
  } catch (error) {
    if (!(error instanceof FeedUnavailable)) throw error
    throw problem('feed_missing', { detail: error.message, headers: { 'Retry-After': '1' } })
  }
}
