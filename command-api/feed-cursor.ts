import { z } from 'zod'

// Where a reader of the feed stands. Positions are drawn before their transactions commit, so a
// reader that kept only the highest position would pass over whoever commits late. The cursor keeps
// the holes it passed, and for each group of holes the transactions that could still fill them: those
// that held the queue's lock after the holes were found. When all of them have ended, the next look
// that still finds a hole empty proves that it stays empty.

/** First and last position of a hole, both inside. */
type Gap = readonly [first: number, last: number]

/** Holes found by one look; `holders` as virtual transaction ids, null when they must be read anew. */
type GapGroup = { gaps: readonly Gap[]; holders: readonly string[] | null }

export type FeedCursor = {
  /** Every position below this one was returned, or is in a gap, or stays empty. */
  next: number
  /** When this server started: transaction ids mean nothing in another server's life. */
  serverStart: string
  groups: readonly GapGroup[]
}

/** Beyond this many holes a page ends early: a cursor must fit in a request's line. */
export const gapLimit = 200

const position = z.int().min(1)
const encoded = z.tuple([
  position,
  z.string().max(40),
  z.array(z.tuple([z.array(z.tuple([position, position])), z.array(z.string()).nullable()])),
])

export const firstCursor: FeedCursor = { next: 1, serverStart: '', groups: [] }

export function encodeCursor({ next, serverStart, groups }: FeedCursor): string {
  const compact = groups.map((group) => [group.gaps, group.holders])
  return Buffer.from(JSON.stringify([next, serverStart, compact])).toString('base64url')
}

/** The cursor, or undefined for text that is none. */
export function decodeCursor(text: string): FeedCursor | undefined {
  try {
    const [next, serverStart, groups] = encoded.parse(
      JSON.parse(Buffer.from(text, 'base64url').toString()),
    )
    return { next, serverStart, groups: groups.map(([gaps, holders]) => ({ gaps, holders })) }
  } catch {
    return undefined
  }
}

/** Before a look: transactions that have ended since can no longer fill a hole. */
export function withHolders(
  cursor: FeedCursor,
  now: { holders: ReadonlySet<string>; serverStart: string },
): FeedCursor {
  const same = cursor.serverStart === now.serverStart
  const groups = cursor.groups.map(({ gaps, holders }) => ({
    gaps,
    holders: same ? (holders?.filter((holder) => now.holders.has(holder)) ?? null) : null,
  }))
  return { next: cursor.next, serverStart: now.serverStart, groups }
}

export type Look = {
  /** Positions that the look returned, rising. */
  positions: readonly number[]
  /** The look stopped at its limit: it says nothing of positions above its last. */
  limited: boolean
  /** Who held the queue's lock after the look. */
  holdersAfter: readonly string[]
}

/** The cursor after a look, and how many of its rows it covers: the rest is for the next page. */
export function advance(before: FeedCursor, look: Look): { cursor: FeedCursor; taken: number } {
  const { taken, found } = newGaps(before, look.positions)
  const positions = look.positions.slice(0, taken)
  const cut = look.limited || taken < look.positions.length
  const provenTo = cut ? (positions.at(-1) ?? 0) : Number.MAX_SAFE_INTEGER
  const old = before.groups.map(({ gaps, holders }) => {
    const open = gaps.flatMap((gap) => without(gap, positions))
    const dead = (gap: Gap) => holders?.length === 0 && gap[1] <= provenTo
    return { gaps: open.filter((gap) => !dead(gap)), holders: holders ?? look.holdersAfter }
  })
  const groups = [...old, { gaps: found, holders: look.holdersAfter }]
  const last = positions.at(-1) ?? 0
  return {
    taken,
    cursor: {
      next: Math.max(before.next, last + 1),
      serverStart: before.serverStart,
      groups: groups.filter((group) => group.gaps.length > 0),
    },
  }
}

/** The holes between rows at or above `next`, as far as the cursor has room for them. */
function newGaps(before: FeedCursor, positions: readonly number[]) {
  const found: Gap[] = []
  let room = gapLimit - before.groups.reduce((sum, group) => sum + group.gaps.length, 0)
  let expected = before.next
  for (const [index, at] of positions.entries()) {
    if (at < before.next) continue
    if (at > expected) {
      if (room <= 0) return { taken: index, found }
      found.push([expected, at - 1])
      room -= 1
    }
    expected = at + 1
  }
  return { taken: positions.length, found }
}

/** What is left of a hole when some of its positions have come. */
function without([first, last]: Gap, positions: readonly number[]): Gap[] {
  const left: Gap[] = []
  let from = first
  for (const at of positions) {
    if (at < from || at > last) continue
    if (at > from) left.push([from, at - 1])
    from = at + 1
  }
  if (from <= last) left.push([from, last])
  return left
}
