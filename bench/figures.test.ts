import { expect, it } from 'vitest'
import { figure, tableOf } from './figures.ts'
import { median, percentile, rotated } from './rounds.ts'

it('takes the ratio of each round to its own baseline, and their median', () => {
  const drained = figure({
    part: 'a',
    name: 'drain',
    unit: '/s',
    rounds: [100, 10, 90],
    baseline: { name: 'alone', rounds: [200, 20, 100] },
    targets: [{ of: 'ratio', atLeast: 0.75 }],
  })
  expect(drained.value).toBe(90)
  expect(drained.ratio).toBe(0.5)
  expect(drained.met).toBe(false)
})

it('is content with either of two targets', () => {
  const targets = [
    { of: 'value', atLeast: 110_000 },
    { of: 'ratio', atLeast: 2.5 },
  ] as const
  const common = { part: 'a', name: 'direct', unit: '/s', rounds: [50_000] }
  const beside = (rounds: number[]) => ({ name: 'kafkajs', rounds })
  expect(figure({ ...common, baseline: beside([10_000]), targets }).met).toBe(true)
  expect(figure({ ...common, baseline: beside([40_000]), targets }).met).toBe(false)
})

it('judges a figure that could not be measured as not reached', () => {
  const memory = { part: 'e', name: 'memory', unit: 'MB', rounds: [Number.NaN] }
  expect(figure({ ...memory, targets: [{ of: 'value', atMost: 250 }] }).met).toBe(false)
})

it('prints FAILED for a part with a violation, and no speed', () => {
  const table = tableOf([
    {
      part: 'a',
      title: 'drain',
      figures: [],
      checked: 'violation: records: 9, and must be 10',
      failed: true,
      load: [1, 2],
    },
  ])
  expect(table).toContain('FAILED')
  expect(table).toContain('records: 9, and must be 10')
})

it('finds medians and percentiles', () => {
  expect(median([3, 1, 2])).toBe(2)
  expect(median([4, 1, 2, 3])).toBe(2.5)
  expect(percentile([1, 2, 3, 4], 0.5)).toBe(3)
  expect(percentile([1, 2, 3, 4], 0.99)).toBe(4)
})

it('begins each round with another variant', () => {
  expect([0, 1, 2, 3].map((round) => rotated(['a', 'b', 'c'], round).join(''))).toEqual([
    'abc',
    'bca',
    'cab',
    'abc',
  ])
})
