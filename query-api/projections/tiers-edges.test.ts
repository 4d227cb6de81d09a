import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  defaultEdges,
  parseTierName,
  parseTiers,
  rangeOf,
  tierOf,
  tierWith,
} from './tiers-edges.ts'

const bound = 10n ** 19n
const anyBalance = fc.bigInt({ min: -bound, max: bound })
const anyEdges = fc
  .uniqueArray(anyBalance, { minLength: 1, maxLength: 12 })
  .map((edges) => edges.toSorted((one, other) => (one < other ? -1 : 1)))
/** Random balances seldom hit an edge; these do. */
const edgesAndBalance = anyEdges.chain((edges) =>
  fc.tuple(
    fc.constant(edges),
    fc.oneof(
      anyBalance,
      fc.tuple(fc.constantFrom(...edges), fc.constantFrom(-1n, 0n, 1n)).map(([at, by]) => at + by),
    ),
  ),
)

test('every balance falls in exactly one tier, the one that is named', () => {
  fc.assert(
    fc.property(edgesAndBalance, ([edges, balance]) => {
      const holding = [...edges, null].flatMap((_, tier) => {
        const { from, to } = rangeOf(edges, tier)
        return (from === null || from <= balance) && (to === null || balance < to) ? [tier] : []
      })
      expect(holding).toEqual([tierOf(edges, balance)])
    }),
  )
})

test('tiers meet without a hole: each ends where the next one begins', () => {
  fc.assert(
    fc.property(anyEdges, (edges) => {
      expect(rangeOf(edges, 0).from).toBe(null)
      expect(rangeOf(edges, edges.length).to).toBe(null)
      for (let tier = 0; tier < edges.length; tier += 1) {
        expect(rangeOf(edges, tier).to).toBe(rangeOf(edges, tier + 1).from)
      }
    }),
  )
})

test('a balance of exactly an edge is above it, and one less is below', () => {
  const edges = [0n, 10_000n, 100_000n]
  const tiers = [-1n, 0n, 1n, 9_999n, 10_000n, 99_999n, 100_000n].map((each) => tierOf(edges, each))
  expect(tiers).toEqual([0, 1, 1, 1, 2, 2, 3])
})

test('without TIERS a currency is cut at 0, 100 and 1,000 of its major unit', () => {
  expect(defaultEdges(2)).toEqual([0n, 10_000n, 100_000n])
  expect(defaultEdges(0)).toEqual([0n, 100n, 1_000n])
  expect(defaultEdges(3)).toEqual([0n, 100_000n, 1_000_000n])
})

test('a name is of the one tier with its range, and of none when no tier has it', () => {
  const edges = [0n, 10_000n]
  const named = (text: string) => tierWith(edges, parseTierName(text)!)
  expect(['EUR:..0', 'EUR:0..10000', 'EUR:10000..'].map(named)).toEqual([0, 1, 2])
  expect(['EUR:..', 'EUR:0..', 'EUR:..10000', 'EUR:5..10000', 'EUR:10000..0'].map(named)).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ])
  expect(['EUR', 'eur:0..1', 'EUR:0-1', 'EUR:1.5..2', ''].map(parseTierName)).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ])
})

test('TIERS gives edges by currency', () => {
  expect(parseTiers(' EUR:-500, 0,10000 ; JPY:100;')).toEqual({
    edges: new Map([
      ['EUR', [-500n, 0n, 10_000n]],
      ['JPY', [100n]],
    ]),
    faults: [],
  })
  expect(parseTiers('')).toEqual({ edges: new Map(), faults: [] })
})

test('of a bad TIERS every fault is told', () => {
  expect(parseTiers('EURO:1;EUR:0,1e3,5,5,-0;EUR:;x').faults).toEqual([
    '"EURO:1" is not a currency and its edges, such as EUR:0,10000,100000',
    'EUR: "1e3" is no whole number of minor units, of 18 digits at most',
    'EUR: 5 comes after 5, and edges rise',
    'EUR: "-0" is no whole number of minor units, of 18 digits at most',
    'EUR is there twice',
    'EUR: "" is no whole number of minor units, of 18 digits at most',
    '"x" is not a currency and its edges, such as EUR:0,10000,100000',
  ])
  const many = Array.from({ length: 101 }, (_, index) => index).join()
  expect(parseTiers(`EUR:${many}`).faults).toEqual(['EUR: 101 edges, and 100 is the most'])
})
