import type { Pool } from 'pg'
import type { Head } from '../guard.ts'
import type { Projection } from '../projection.ts'
import type { Feed, FeedHead } from './feed.ts'

/** An account as the feed has it (version 0: it knows none) and as it is here, if it is. */
export type ComparedHead = { fed: FeedHead; head: Head | undefined }

const pageLimit = 1_000

/**
 * Every account that the feed or the read model knows, in the order of their ids, at most 2,000 at a
 * time. The feed is asked first: what is here may be newer, never staler than it need be.
 */
export async function* compareHeads({
  pool,
  projection,
  feed,
  signal,
}: {
  pool: Pool
  projection: Projection
  feed: Feed
  signal: AbortSignal
}): AsyncGenerator<ComparedHead[]> {
  for (let after: string | null = null; ;) {
    const page = await feed.heads(after, signal)
    const own = await projection.headsAfter(pool, after ?? '', pageLimit)
    const ownEnd = own.size < pageLimit ? null : [...own.keys()].at(-1)!
    const through = firstOf(page.next, ownEnd)
    yield merge(page.heads, own).filter(({ fed }) => through === null || fed.account <= through)
    if (through === null) return
    after = through
  }
}

function firstOf(one: string | null, other: string | null): string | null {
  if (one === null || other === null) return one ?? other
  return one < other ? one : other
}

function merge(feds: readonly FeedHead[], own: ReadonlyMap<string, Head>): ComparedHead[] {
  const known = new Set(feds.map(({ account }) => account))
  const unknown = [...own.keys()].filter((account) => !known.has(account))
  return [...feds, ...unknown.map((account) => ({ account, version: 0, lastEventId: '' }))].map(
    (fed) => ({ fed, head: own.get(fed.account) }),
  )
}
