import { expect, test } from 'vitest'
import { rest } from '../test-rest.ts'
import type { SwitchingResult } from './switching-drill.ts'
import { switchingFailures } from './switching-report.ts'

const result = (changes: Partial<SwitchingResult> = {}): SwitchingResult => ({
  ...rest(),
  cases: [{ name: 'wal to polling', fromMs: 0, tookMs: 1 }],
  ways: [{ from: 'wal', to: 'polling', fromMs: 0 }],
  ...changes,
})
const failures = (changes: Partial<SwitchingResult> = {}) =>
  switchingFailures(result(changes), { only: undefined })

test('a switch that was not finished fails the drill, and so does what is not as it should be at rest', () => {
  expect(failures()).toEqual([])
  const cases = [{ name: 'wal to polling', fromMs: 0, tookMs: 1, error: 'it stays' }]
  expect(failures({ cases })).toEqual(['wal to polling: it stays'])
  expect(failures({ unexpected: ['second-relay: 3'] })).toEqual([
    'ended by itself: second-relay: 3',
  ])
  expect(failures({ left: ['slots left behind: a'] })).toEqual(['at rest: slots left behind: a'])
})

test('a repeat that nothing explains fails the drill', () => {
  const { verdict } = rest()
  const repeats = [{ position: 1n, firstMs: 4_999, atMs: 20_000 }]
  const figures = { ...verdict.figures, repeats }
  expect(failures({ verdict: { ...verdict, figures } })).toEqual([
    '1 records came again without a reason, such as',
    'wal to polling: position 1 came again 15001 ms later',
  ])
})
