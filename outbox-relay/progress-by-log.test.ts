import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  afterHolders,
  afterProof,
  afterPublishing,
  isPublished,
  type Progress,
  progressFrom,
  type Range,
  upTo,
  withoutPositions,
} from './progress.ts'

// Progress as the log makes it, held against plain sets of positions.

const none: ReadonlySet<string> = new Set()
const limit = 40
const all = Array.from({ length: limit + 5 }, (_, n) => BigInt(n + 1))
const subset = fc.uniqueArray(fc.integer({ min: 1, max: limit })).map(ascending)
const ranges = subset.map(rangesOf)

function ascending(positions: readonly number[]): bigint[] {
  return positions.toSorted((a, b) => a - b).map(BigInt)
}

function rangesOf(positions: readonly bigint[]): Range[] {
  const found: { first: bigint; last: bigint }[] = []
  for (const position of positions) {
    const open = found.at(-1)
    if (open?.last === position - 1n) open.last = position
    else found.push({ first: position, last: position })
  }
  return found
}

const covers = (found: readonly Range[], position: bigint) =>
  found.some(({ first, last }) => first <= position && position <= last)
const within = (found: readonly Range[]) => all.filter((position) => covers(found, position))
const openOf = ({ gaps }: Progress) => within(gaps)

/** Progress with these positions open, and holders by position, so that gaps differ in them. */
const progresses = fc
  .tuple(ranges, fc.nat(5), fc.array(fc.constantFrom('a', 'b', null), { minLength: 9 }))
  .map(([open, beyond, names]): Progress => {
    const next = (open.at(-1)?.last ?? 0n) + 1n + BigInt(beyond)
    const { gaps } = progressFrom(
      next,
      open.map(({ first, last }) => [first, last]),
    )
    const holdersOf = (name: string | null | undefined) => (name ? new Set([name]) : null)
    return {
      next,
      gaps: gaps.map((gap, at) => ({ ...gap, holders: holdersOf(names[at % names.length]) })),
    }
  })

function expectSound({ next, gaps }: Progress): void {
  let from = 1n
  for (const { first, last } of gaps) {
    expect(first).toBeGreaterThanOrEqual(from)
    expect(last).toBeGreaterThanOrEqual(first)
    expect(last).toBeLessThan(next)
    from = last + 1n
  }
}

test('a position is published when it is below next and in no gap', () => {
  fc.assert(
    fc.property(progresses, (progress) => {
      const open = new Set(openOf(progress))
      for (const position of all) {
        const expected = position < progress.next && !open.has(position)
        expect(isPublished(progress, position)).toBe(expected)
      }
    }),
  )
})

test('rows of the log are published, what they jump over is open, and nothing else changes', () => {
  fc.assert(
    fc.property(progresses, subset, (progress, drawn) => {
      const fresh = drawn.filter((position) => !isPublished(progress, position))
      const after = afterPublishing(progress, fresh)
      expectSound(after)
      const highest = fresh.at(-1) ?? 0n
      expect(after.next).toBe(highest < progress.next ? progress.next : highest + 1n)
      for (const position of all) {
        const expected = isPublished(progress, position) || fresh.includes(position)
        expect(isPublished(after, position)).toBe(expected)
      }
    }),
  )
})

test('that others did not come closes no gap, though nobody holds it', () => {
  const free = afterHolders(progressFrom(10n, [[2n, 6n]]), none)
  const after = afterPublishing(free, [4n, 12n])
  expect(after.gaps.map(({ first, last }) => [first, last])).toEqual([
    [2n, 3n],
    [5n, 6n],
    [10n, 11n],
  ])
})

describe('holders', () => {
  test('the parts of a gap have those of the whole, and a new gap has none that are known', () => {
    const held = afterHolders(progressFrom(10n, [[2n, 6n]]), new Set(['3/7']))
    const after = afterPublishing(held, [4n, 12n])
    expect(after.gaps.map(({ holders }) => holders && [...holders])).toEqual([
      ['3/7'],
      ['3/7'],
      null,
    ])
  })

  test('a gap found after the proof was begun learns nothing from it', () => {
    const before = progressFrom(10n, [[2n, 6n]])
    const observed = afterHolders(before, none).gaps
    const after = afterProof(afterPublishing(before, [4n, 12n]), { observed, dead: [] })
    expect(after.gaps.map(({ first, holders }) => [first, holders])).toEqual([
      [2n, none],
      [5n, none],
      [10n, null],
    ])
  })
})

test('a row that was published, or proven to stay empty, is a fault when it comes', () => {
  const progress = progressFrom(10n, [[2n, 6n]])
  expect(() => afterPublishing(progress, [8n])).toThrow(/outside the open gaps/)
  const proven = afterProof(progress, { observed: [], dead: [{ first: 2n, last: 3n }] })
  expect(() => afterPublishing(proven, [3n])).toThrow(/outside the open gaps/)
})

test('a proof closes what it proved and no more, whatever was published since it was begun', () => {
  fc.assert(
    fc.property(progresses, subset, subset, (begun, drawn, chosen) => {
      const open = openOf(begun)
      const dead = rangesOf(chosen.filter((position) => open.includes(position)))
      // What is proven to stay empty never comes.
      const came = drawn.filter((at) => !isPublished(begun, at) && !covers(dead, at))
      const observed = afterHolders(begun, new Set(['b'])).gaps
      const present = afterPublishing(begun, came)
      const after = afterProof(present, { observed, dead })
      expectSound(after)
      expect(after.next).toBe(present.next)
      expect(openOf(after)).toEqual(openOf(present).filter((at) => !covers(dead, at)))
      for (const { first, last, holders } of after.gaps) {
        const looked = observed.find((gap) => gap.first <= first && last <= gap.last)
        expect(holders).toBe(looked === undefined ? null : looked.holders)
      }
    }),
  )
})

test('ranges without positions, and ranges up to a position, are as the sets are', () => {
  fc.assert(
    fc.property(ranges, subset, fc.nat(limit), (of, positions, last) => {
      const left = within(of).filter((position) => !positions.includes(position))
      expect(withoutPositions(of, positions)).toEqual(
        of.flatMap((range) => rangesOf(left.filter((position) => covers([range], position)))),
      )
      expect(within(upTo(of, BigInt(last)))).toEqual(within(of).filter((at) => at <= last))
    }),
  )
})

test('the model is not blind: to forget the holes of the tail, or the last of a range, is caught', () => {
  const forgetful = fc.property(progresses, subset, (progress, drawn) => {
    const fresh = drawn.filter((position) => !isPublished(progress, position))
    const { next } = afterPublishing(progress, fresh)
    const after: Progress = { next, gaps: progress.gaps }
    for (const position of all) {
      const expected = isPublished(progress, position) || fresh.includes(position)
      expect(isPublished(after, position)).toBe(expected)
    }
  })
  const short = fc.property(ranges, fc.nat(limit), (of, last) => {
    expect(within(upTo(of, BigInt(last) - 1n))).toEqual(within(of).filter((at) => at <= last))
  })
  expect(fc.check(forgetful).failed).toBe(true)
  expect(fc.check(short).failed).toBe(true)
})
