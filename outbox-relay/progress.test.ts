import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  afterHolders,
  afterReading,
  gapChanges,
  type Progress,
  progressFrom,
  type Reading,
  withoutHolders,
} from './progress.ts'

const start: Progress = { next: 1n, gaps: [] }
const ranges = (progress: Progress) => progress.gaps.map((gap) => [gap.first, gap.last])
const none: ReadonlySet<string> = new Set()

describe('after a reading', () => {
  test('holes before and between the rows of the tail become gaps', () => {
    const progress = afterReading(start, { positions: [3n, 4n, 8n], complete: true })
    expect(progress.next).toBe(9n)
    expect(progress.gaps).toEqual([
      { first: 1n, last: 2n, holders: null },
      { first: 5n, last: 7n, holders: null },
    ])
  })

  test('next moves over returned rows only, and stays when there are none', () => {
    expect(afterReading({ next: 7n, gaps: [] }, { positions: [], complete: true }).next).toBe(7n)
  })

  test('a late row splits its gap, and both parts keep its holders', () => {
    const holders = new Set(['3/7'])
    const before: Progress = { next: 10n, gaps: [{ first: 2n, last: 6n, holders }] }
    const { gaps } = afterReading(before, { positions: [4n], complete: true })
    expect(gaps).toEqual([
      { first: 2n, last: 3n, holders },
      { first: 5n, last: 6n, holders },
    ])
  })

  test('a gap stays open while its holders are unknown or some of them are left', () => {
    const unknown = progressFrom(10n, [[2n, 6n]])
    expect(ranges(afterReading(unknown, { positions: [], complete: true }))).toEqual([[2n, 6n]])
    const held = afterHolders(unknown, new Set(['3/7']))
    expect(ranges(afterReading(held, { positions: [], complete: true }))).toEqual([[2n, 6n]])
  })

  test('a gap without holders closes, but only up to the last row of a statement that stopped', () => {
    const free = afterHolders(
      progressFrom(100n, [
        [2n, 6n],
        [50n, 60n],
      ]),
      none,
    )
    expect(ranges(afterReading(free, { positions: [4n], complete: false }))).toEqual([
      [5n, 6n],
      [50n, 60n],
    ])
    expect(afterReading(free, { positions: [4n], complete: true }).gaps).toEqual([])
  })

  test('a row that was published before is a fault, not a repetition', () => {
    expect(() => afterReading({ next: 9n, gaps: [] }, { positions: [3n], complete: true })).toThrow(
      /outside the open gaps/,
    )
  })
})

test('holders only ever shrink: who came after the gap was looked at never joins', () => {
  const first = afterHolders(progressFrom(10n, [[2n, 6n]]), new Set(['3/7', '4/1']))
  const later = afterHolders(first, new Set(['4/1', '9/9']))
  expect(later.gaps[0]?.holders).toEqual(new Set(['4/1']))
  expect(afterHolders(later, new Set(['9/9'])).gaps[0]?.holders).toEqual(none)
  expect(withoutHolders(later).gaps[0]?.holders).toBeNull()
})

test('saved progress that cannot be is refused', () => {
  expect(() => progressFrom(10n, [[5n, 10n]])).toThrow(/misplaced/)
  expect(() =>
    progressFrom(10n, [
      [5n, 6n],
      [6n, 7n],
    ]),
  ).toThrow(/misplaced/)
})

// A world of transactions that take the lock, draw positions, and commit or roll back, beside a
// relay that reads. The naive truth is kept as plain sets of positions.

type Transaction = { name: string; positions: number[] }

class World {
  progress = start
  published = new Set<number>()
  #drawn = 0
  #transactions = 0
  #open: Transaction[] = []
  #visible = new Set<number>()
  readonly #read: typeof afterReading

  constructor(read: typeof afterReading) {
    this.#read = read
  }

  begin(): void {
    this.#transactions += 1
    this.#open.push({ name: `t/${this.#transactions}`, positions: [] })
  }

  draw(which: number, count: number): void {
    const transaction = this.#open[which % Math.max(this.#open.length, 1)]
    if (transaction === undefined) return
    for (let n = 0; n < count; n += 1) transaction.positions.push((this.#drawn += 1))
  }

  end(which: number, commits: boolean): void {
    const [transaction] = this.#open.splice(which % Math.max(this.#open.length, 1), 1)
    if (commits) for (const position of transaction?.positions ?? []) this.#visible.add(position)
  }

  readHolders(): void {
    this.progress = afterHolders(this.progress, new Set(this.#open.map(({ name }) => name)))
  }

  readRows(limit: number): void {
    const { next, gaps } = this.progress
    const wanted = (position: bigint) =>
      position >= next || gaps.some((gap) => gap.first <= position && position <= gap.last)
    const matching = [...this.#visible].toSorted((a, b) => a - b).filter((p) => wanted(BigInt(p)))
    const rows = matching.slice(0, limit)
    for (const row of rows) {
      if (this.published.has(row)) throw new Error(`position ${row} published twice`)
      this.published.add(row)
    }
    this.progress = this.#read(this.progress, {
      positions: rows.map(BigInt),
      complete: rows.length < limit,
    })
  }

  /** Everything ends; then, reading until nothing is open, every committed row must be there. */
  settle(): void {
    while (this.#open.length > 0) this.end(0, this.#open.length % 2 === 0)
    for (let n = 0; n < this.#drawn + 3; n += 1) {
      this.readHolders()
      this.readRows(3)
    }
  }

  get lost(): number[] {
    return [...this.#visible].filter((position) => !this.published.has(position))
  }

  /** What progress calls published must be published, or never going to be there. */
  check(): void {
    const { next, gaps } = this.progress
    const pending = new Set(this.#open.flatMap(({ positions }) => positions))
    for (let position = 1n; position < next; position += 1n) {
      const open = gaps.some((gap) => gap.first <= position && position <= gap.last)
      const here = this.published.has(Number(position))
      if (open && here) throw new Error(`position ${position} published and still open`)
      if (open || here) continue
      if (pending.has(Number(position))) throw new Error(`position ${position} closed too early`)
      if (this.#visible.has(Number(position))) throw new Error(`position ${position} passed over`)
    }
  }
}

const steps = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('begin' as const) }),
    fc.record({ do: fc.constant('draw' as const), which: fc.nat(9), count: fc.nat(4) }),
    fc.record({ do: fc.constant('end' as const), which: fc.nat(9), commits: fc.boolean() }),
    fc.record({ do: fc.constant('rows' as const), limit: fc.integer({ min: 1, max: 6 }) }),
    fc.record({ do: fc.constant('holders' as const) }),
  ),
  { maxLength: 120, size: 'max' },
)
type Step = typeof steps extends fc.Arbitrary<(infer One)[]> ? One : never

function act(world: World, step: Step): void {
  if (step.do === 'begin') world.begin()
  else if (step.do === 'draw') world.draw(step.which, step.count)
  else if (step.do === 'end') world.end(step.which, step.commits)
  else if (step.do === 'rows') world.readRows(step.limit)
  else world.readHolders()
}

function survives(read: typeof afterReading) {
  return fc.property(steps, (script) => {
    const world = new World(read)
    for (const step of script) {
      act(world, step)
      world.check()
    }
    world.settle()
    world.check()
    expect(world.lost).toEqual([])
    expect(world.progress.gaps).toEqual([])
  })
}

test('in every interleaving nothing is lost, nothing comes twice, and all gaps close', () => {
  fc.assert(survives(afterReading), { numRuns: 2_000 })
})

test('the model is not blind: closing gaps without proof, or beyond the last row, is caught', () => {
  const forgetful = (progress: Progress, reading: Reading) =>
    afterReading(afterHolders(progress, none), reading)
  const greedy = (progress: Progress, { positions }: Reading) =>
    afterReading(progress, { positions, complete: true })
  const naive = (progress: Progress, reading: Reading): Progress => ({
    next: afterReading(progress, reading).next,
    gaps: [],
  })
  for (const faulty of [forgetful, greedy, naive]) {
    expect(fc.check(survives(faulty), { numRuns: 2_000 }).failed).toBe(true)
  }
})

test('the changes between two states turn the saved gaps of one into those of the other', () => {
  const states = fc
    .tuple(fc.uniqueArray(fc.integer({ min: 1, max: 60 })), fc.integer({ min: 61, max: 70 }))
    .map(([positions, end]) =>
      afterReading(start, {
        positions: [...positions, end].toSorted((a, b) => a - b).map(BigInt),
        complete: true,
      }),
    )
  fc.assert(
    fc.property(states, states, (from, to) => {
      const { closed, opened } = gapChanges(from, to)
      const rows = new Map(from.gaps.map((gap) => [gap.first, gap.last]))
      for (const first of closed) expect(rows.delete(first)).toBe(true)
      for (const gap of opened) rows.set(gap.first, gap.last)
      const sorted = [...rows].toSorted(([a], [b]) => Number(a - b))
      expect(sorted).toEqual(ranges(to))
      expect(gapChanges(to, to)).toEqual({ closed: [], opened: [] })
    }),
  )
})
