import { expect, test } from 'vitest'
import { checkNoticed, type Harm, unforgiven } from './harm.ts'

const harm: Harm = {
  accounts: new Set(['a', 'b']),
  mustNotice: new Set(['a']),
  codes: ['version_gap', 'lost_tail'],
  fromMs: 1_000,
  untilMs: 2_000,
}
const entry = (changes: { atMs?: number; account?: string; what?: string } = {}) => ({
  atMs: 1_500,
  account: 'a',
  what: 'version_gap',
  ...changes,
})

test('a harm forgives its own accounts, while it lasts, what it does to them', () => {
  const others = [
    entry({ account: 'c' }),
    entry({ what: 'version_conflict' }),
    entry({ atMs: 999 }),
    entry({ atMs: 2_001 }),
  ]
  expect(unforgiven([entry(), entry({ account: 'b' }), ...others], [harm])).toEqual(others)
})

test('who was harmed and is not in quarantine for it was not noticed', () => {
  expect(checkNoticed([harm], [entry()])).toEqual([])
  for (const other of [[], [entry({ account: 'b' })], [entry({ atMs: 1 })]]) {
    expect(checkNoticed([harm], other)).toMatchObject([{ promise: 'I4' }])
  }
})
