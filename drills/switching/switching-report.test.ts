import { expect, test } from 'vitest'
import type { Verdict } from '../checker.ts'
import { directions, placesOf } from './places.ts'
import { casesOf, type SwitchingResult } from './switching-drill.ts'
import { switchingFailures } from './switching-report.ts'

const verdictOf = (changes: {
  findings?: Verdict['findings']
  repeats?: Verdict['figures']['repeats']
}) =>
  ({
    findings: changes.findings ?? [],
    figures: { repeats: changes.repeats ?? [] },
  }) as unknown as Verdict

const result = (changes: Partial<SwitchingResult> = {}): SwitchingResult => ({
  cases: [{ name: 'wal to polling', fromMs: 0, tookMs: 1 }],
  verdict: verdictOf({}),
  quarantined: {},
  records: [],
  skipped: 0,
  ...changes,
})

test('a switch that was not finished, a breach and a repeat that is too old each fail the drill', () => {
  expect(switchingFailures(result())).toEqual([])
  const cases = [{ name: 'wal to polling', fromMs: 0, tookMs: 1, error: 'it stays' }]
  expect(switchingFailures(result({ cases }))).toEqual(['wal to polling: it stays'])
  const findings = [{ promise: 'I1' as const, what: 'position 1' }]
  expect(switchingFailures(result({ verdict: verdictOf({ findings }) }))).toEqual([
    '1 breaches of promises',
  ])
  const repeats = [{ firstMs: 4_999, atMs: 20_000 }]
  expect(switchingFailures(result({ verdict: verdictOf({ repeats }) }))[0]).toMatch(
    /^1 records came again/,
  )
})

test('every direction has every one of its places, killed and frozen', () => {
  expect(directions).toHaveLength(6)
  const places = directions.reduce((sum, direction) => sum + placesOf(direction).length, 0)
  // And four that can be called off: left alone, killed, frozen.
  expect(casesOf(undefined)).toHaveLength(2 * places + 4 * 3)
  expect(placesOf({ from: 'debezium', to: 'wal' })).toContain('at drop slot')
})
