import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  advance,
  decodeCursor,
  encodeCursor,
  firstCursor,
  gapLimit,
  withHolders,
  type FeedCursor,
} from './feed-cursor.ts'

const none: ReadonlySet<string> = new Set()
const server = '2026-01-01'

const read = (cursor: FeedCursor, positions: number[], holdersAfter: string[], before = none) =>
  advance(withHolders(cursor, { holders: before, serverStart: server }), {
    positions,
    limited: false,
    holdersAfter,
  }).cursor

describe("the feed's cursor", () => {
  it('keeps a hole while whoever may fill it lives, and returns to it', () => {
    const first = read(firstCursor, [1, 2, 5], ['3/7'])
    expect(first).toMatchObject({ next: 6, groups: [{ gaps: [[3, 4]], holders: ['3/7'] }] })
    const still = read(first, [], ['3/7'], new Set(['3/7']))
    expect(still.groups).toEqual(first.groups)
    const filled = read(still, [4], [], none)
    expect(filled).toMatchObject({ next: 6, groups: [] })
  })

  it('closes a hole only by a look made after its holders had ended', () => {
    const found = read(firstCursor, [1, 3], [])
    expect(found.groups).toHaveLength(1)
    expect(read(found, [], []).groups).toHaveLength(0)
  })

  it('proves nothing above the last row of a look that met its limit', () => {
    const found = read(firstCursor, [1, 3, 5], [])
    const before = withHolders(found, { holders: none, serverStart: server })
    const { cursor } = advance(before, { positions: [2], limited: true, holdersAfter: [] })
    expect(cursor.groups).toEqual([{ gaps: [[4, 4]], holders: [] }])
  })

  it('trusts no holder of a server that has been restarted', () => {
    const found = read(firstCursor, [2], [])
    const restarted = withHolders(found, { holders: none, serverStart: 'later' })
    const { cursor } = advance(restarted, { positions: [], limited: false, holdersAfter: ['9/9'] })
    expect(cursor.groups).toEqual([{ gaps: [[1, 1]], holders: ['9/9'] }])
  })

  it('ends a page early rather than keep more holes than fit', () => {
    const positions = Array.from({ length: 500 }, (_, index) => 2 * index + 2)
    const look = { positions, limited: false, holdersAfter: ['1/1'] }
    const { cursor, taken } = advance({ ...firstCursor, serverStart: server }, look)
    expect(taken).toBe(gapLimit)
    expect(cursor.next).toBe(2 * gapLimit + 1)
    expect(encodeCursor(cursor).length).toBeLessThan(8_000)
  })

  it('survives its own encoding, and refuses what it did not write', () => {
    const cursor = read(firstCursor, [1, 2, 5], ['3/7'])
    expect(decodeCursor(encodeCursor(cursor))).toEqual(cursor)
    for (const text of ['', 'x', encodeCursor(cursor).slice(3)]) {
      expect(decodeCursor(text)).toBeUndefined()
    }
  })

  it('misses no position, whatever order transactions commit in', () => {
    fc.assert(
      fc.property(schedule, (drawn) => missed(drawn, (cursor) => cursor) === 0),
      {
        numRuns: 500,
      },
    )
  })

  it('would miss some if it kept only the next position (control of the test above)', () => {
    const naive = (cursor: FeedCursor) => ({ ...cursor, groups: [] })
    const outcome = fc.check(fc.property(schedule, (drawn) => missed(drawn, naive) === 0))
    expect(outcome.failed).toBe(true)
  })
})

/** Transactions that draw their position at once and commit, or do not, some looks later. */
const schedule = fc.array(
  fc.record({ drawnAt: fc.nat(10), lasts: fc.nat(6), commits: fc.boolean() }),
  { maxLength: 30 },
)
type Drawn = { drawnAt: number; lasts: number; commits: boolean }

/** How many committed positions a reader that goes on by `keep(cursor)` did not see exactly once. */
function missed(drawn: readonly Drawn[], keep: (cursor: FeedCursor) => FeedCursor): number {
  const rows = drawn
    .toSorted((a, b) => a.drawnAt - b.drawnAt)
    .map((row, index) => ({ ...row, position: index + 1, holder: `1/${index}` }))
  let cursor: FeedCursor = firstCursor
  const seen: number[] = []
  for (let time = 0; time < 20; time += 1) {
    const alive = rows.filter((row) => row.drawnAt <= time && time < row.drawnAt + row.lasts)
    const holders = new Set(alive.map((row) => row.holder))
    const before = withHolders(cursor, { holders, serverStart: server })
    const gaps = before.groups.flatMap((group) => group.gaps)
    const positions = rows
      .filter((row) => row.commits && row.drawnAt + row.lasts <= time)
      .map((row) => row.position)
      .filter((at) => at >= before.next || gaps.some(([from, to]) => at >= from && at <= to))
    cursor = keep(advance(before, { positions, limited: false, holdersAfter: [...holders] }).cursor)
    seen.push(...positions)
  }
  const committed = rows.filter((row) => row.commits)
  return committed.filter(({ position }) => seen.filter((at) => at === position).length !== 1)
    .length
}
