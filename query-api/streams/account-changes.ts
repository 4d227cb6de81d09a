import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { backoffMs, pause } from 'service/backoff'
import { databaseFault } from '../database-fault.ts'
import type { StoredEvent } from '../event-record.ts'
import { LagWatch } from '../lag-watch.ts'
import { problem } from '../problems.ts'
import { findAccount } from '../projections/accounts-reads.ts'
import { accounts } from '../projections/accounts.ts'
import { type Feed, FeedUnavailable } from '../quarantine/feed.ts'
import { feedMissing } from '../quarantine/repairer.ts'
import { accountMissing, accountParams, noQuery, readRoute, type ReadSettings } from '../reading.ts'
import { commentText, EventStreams, eventText, heartbeatMs, lastEventId } from './event-stream.ts'

// One account's changes, live. An event's id is the account's version, and what is sent comes from
// the command side's feed, which has every version for ever: so whoever comes back with the last
// id, to whichever replica and however late, gets all that follows and none of it twice. A change
// is sent once the read model `accounts` has it, so that who asks there next does not find it
// missing.

export type ChangesSettings = ReadSettings & {
  streams: EventStreams
  /** Aborts when the process stops. */
  signal: AbortSignal
  feed: Feed | undefined
}

const lookIntervalMs = 250
const waiterLimit = 10_000
const failureBackoff = { firstMs: 500, capMs: 10_000 }

export function changesRoutes(settings: ChangesSettings): Route[] {
  const { reader, signal } = settings
  const watch = new LagWatch({
    versionsOf: (ids) => accounts.versions(reader, ids),
    signal,
    // Streams have their own limit.
    waiterLimit,
    longestPauseMs: lookIntervalMs,
  })
  const freshness = settings.freshnessOf(accounts)
  return [
    readRoute(freshness, '/accounts/:id/changes', (request) =>
      openChanges(settings, watch, request),
    ),
  ]
}

function openChanges(
  { reader, streams, feed }: ChangesSettings,
  watch: LagWatch,
  request: ApiRequest,
): () => Promise<ApiAnswer> {
  const { id } = parsePart(accountParams, request.params, 'path')
  parsePart(noQuery, request.query, 'query')
  const last = lastEventId(request)
  return async () => {
    if (feed === undefined) throw problem('feed_missing', { detail: feedMissing })
    const account = (await findAccount(reader, id))?.account
    if (account === undefined) throw await accountMissing(reader, accounts, id)
    const changes = new Changes({ reader, watch, feed }, id, last ?? account.version)
    return streams.answer(request, async function* (signal) {
      if (last === undefined) {
        yield eventText({ name: 'account', id: account.version, data: JSON.stringify(account) })
      }
      yield* changes.follow(signal)
    })
  }
}

type Sources = { reader: ReadSettings['reader']; watch: LagWatch; feed: Feed }

class Changes {
  readonly #sources: Sources
  readonly #account: string
  /** The version that was sent last. */
  #last: number

  constructor(sources: Sources, account: string, last: number) {
    this.#sources = sources
    this.#account = account
    this.#last = last
  }

  /** What is away is waited for: nothing is passed over. */
  async *follow(signal: AbortSignal): AsyncGenerator<string> {
    for (let failures = 0; !signal.aborted;) {
      let events: StoredEvent[] = []
      try {
        if (!(await this.#moved(signal))) {
          if (!signal.aborted) yield commentText('nothing new')
          continue
        }
        events = await this.#next(signal)
      } catch (error) {
        if (signal.aborted) return
        const passes = error instanceof FeedUnavailable || databaseFault(error) === 'passing'
        if (!passes) throw error
      }
      for (const event of events) {
        yield eventText({ name: 'change', id: event.version, data: dataOf(event) })
        this.#last = event.version
      }
      failures = events.length > 0 ? 0 : failures + 1
      if (failures === 0) continue
      yield commentText('waiting for the command side')
      await pause(backoffMs(failures, failureBackoff), signal)
    }
  }

  /** Waits for a version behind the last one; false when none came for as long as a heartbeat. */
  async #moved(signal: AbortSignal): Promise<boolean> {
    const token = new Map([[this.#account, this.#last + 1]])
    const hangUp = () => signal
    const lags = await this.#sources.watch.lagsOf({ token, waitMs: heartbeatMs, hangUp })
    return lags.length === 0
  }

  async #next(signal: AbortSignal): Promise<StoredEvent[]> {
    const { reader, feed } = this.#sources
    const versions = await accounts.versions(reader, [this.#account])
    const { events } = await feed.accountEvents(this.#account, this.#last + 1, signal)
    const here = versions.get(this.#account) ?? 0
    return events.filter(({ version }) => version <= here)
  }
}

/** The payload as it is stored, which is JSON already. */
function dataOf({ account, payload, ...event }: StoredEvent): string {
  return `${JSON.stringify({ accountId: account, ...event }).slice(0, -1)},"payload":${payload}}`
}
