import { z } from 'zod'
import { type StoredEvent } from '../event-record.ts'

// The command API's feed: what really happened, and the only thing that the query side ever asks the
// write side for. It is read from the write database, so it knows every event before Kafka does.

/** The feed gave no answer that can be used. `feed_unreachable` passes by itself. */
export class FeedUnavailable extends Error {
  readonly code: 'feed_unreachable' | 'feed_refused' | 'feed_malformed'

  constructor(code: FeedUnavailable['code'], message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'FeedUnavailable'
    this.code = code
  }
}

/** An account's last event, as the command side has it. */
export type FeedHead = { account: string; version: number; lastEventId: string }

export type Feed = {
  /** Events in version order from `from` on, at most 1,000; `next` is the version to go on from. */
  accountEvents(
    account: string,
    from: number,
    signal?: AbortSignal,
  ): Promise<{ events: StoredEvent[]; next: number | null }>
  /** The same events as the feed shows them, with all that it says of them. */
  envelopes(
    account: string,
    page: { from: number; limit: number },
    signal?: AbortSignal,
  ): Promise<{ items: Envelope[]; next: number | null }>
  /** Accounts behind `after` in the order of their ids; `next` is the last one, null at the end. */
  heads(
    after: string | null,
    signal?: AbortSignal,
  ): Promise<{ heads: FeedHead[]; next: string | null }>
}

const version = z.int().positive()

const envelope = z.looseObject({
  accountId: z.string(),
  version,
  id: z.string(),
  type: z.string(),
  at: z.string(),
  payload: z.unknown(),
})
type Envelope = z.output<typeof envelope>

const eventsPage = z.object({ items: z.array(envelope), next: version.nullable() })

const checksumsPage = z.object({
  items: z.array(z.object({ accountId: z.string(), version, lastEventId: z.uuid() })),
  next: z.string().nullable(),
})

const defaultTimeoutMs = 5_000
const defaultPageLimit = 1_000

export type FeedSettings = {
  url: string
  /** An access key of the role `service`. */
  key: string
  timeoutMs?: number
  /** How many items a page has. 1,000 by default. */
  pageLimit?: number
}

/** Undefined where a variable is missing that says the way to it. */
export function feedOf(
  { url, key }: { url: string | undefined; key: string | undefined },
  more: Pick<FeedSettings, 'pageLimit'> = {},
): Feed | undefined {
  return url === undefined || key === undefined ? undefined : openFeed({ url, key, ...more })
}

/** Its functions throw FeedUnavailable. */
export function openFeed(settings: FeedSettings): Feed {
  const { url, key, timeoutMs = defaultTimeoutMs, pageLimit = defaultPageLimit } = settings

  async function page<Schema extends z.ZodType>(
    schema: Schema,
    path: string,
    { query, signal }: { query: Record<string, string>; signal: AbortSignal | undefined },
  ): Promise<z.output<Schema>> {
    const target = new URL(path, url)
    target.search = new URLSearchParams({ limit: String(pageLimit), ...query }).toString()
    const signals = [AbortSignal.timeout(timeoutMs), ...(signal === undefined ? [] : [signal])]
    const text = await fetchText(target, key, AbortSignal.any(signals))
    try {
      return schema.parse(JSON.parse(text))
    } catch (error) {
      throw new FeedUnavailable('feed_malformed', `${path} is not as it should be`, error)
    }
  }

  const eventsOf = (
    account: string,
    query: Record<string, string>,
    signal: AbortSignal | undefined,
  ) => page(eventsPage, `/feed/accounts/${encodeURIComponent(account)}/events`, { query, signal })

  return {
    async accountEvents(account, from, signal) {
      const { items, next } = await eventsOf(account, { from: String(from) }, signal)
      return { events: items.map(storedOf), next }
    },
    envelopes: (account, { from, limit }, signal) =>
      eventsOf(account, { from: String(from), limit: String(limit) }, signal),
    async heads(after, signal) {
      const query: Record<string, string> = after === null ? {} : { after }
      const { items, next } = await page(checksumsPage, '/feed/checksums', { query, signal })
      const heads = items.map(({ accountId, ...head }) => ({ account: accountId, ...head }))
      return { heads, next }
    },
  }
}

function storedOf({
  accountId,
  version: at_version,
  id,
  type,
  at,
  payload,
}: Envelope): StoredEvent {
  const text = JSON.stringify(payload) ?? ''
  return { account: accountId, version: at_version, id, type, at, payload: text }
}

async function fetchText(target: URL, key: string, signal: AbortSignal): Promise<string> {
  let response: Response
  let text: string
  try {
    response = await fetch(target, { headers: { Authorization: `Bearer ${key}` }, signal })
    text = await response.text()
  } catch (error) {
    const message = `the feed at ${target.origin} does not answer`
    throw new FeedUnavailable('feed_unreachable', message, error)
  }
  if (response.ok) return text
  const said = `the feed at ${target.origin} answers ${response.status}`
  if (response.status >= 500 || response.status === 429) {
    throw new FeedUnavailable('feed_unreachable', said)
  }
  const hint = response.status === 401 ? ': COMMAND_API_KEY is not one of its access keys' : ''
  throw new FeedUnavailable('feed_refused', `${said}${hint}`)
}
