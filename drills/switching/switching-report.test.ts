import { expect, test } from 'vitest'
import type { TopicRecord } from '../topic-reader.ts'
import { directions, placesOf } from './places.ts'
import { repeatsIn } from './repeats.ts'
import { casesOf, type SwitchingResult } from './switching-drill.ts'
import { switchingFailures } from './switching-report.ts'

const record = (id: string, appendedMs: number): TopicRecord => ({
  partition: 0,
  offset: 0n,
  appendedMs,
  key: 'a',
  value: '{}',
  headers: [['id', id]],
})

const result = (changes: Partial<SwitchingResult> = {}): SwitchingResult => ({
  cases: [{ name: 'wal to polling', fromMs: 0, tookMs: 1 }],
  verdict: { findings: [] } as unknown as SwitchingResult['verdict'],
  repeats: [],
  skipped: 0,
  ...changes,
})

test('repeats are found, each with its age', () => {
  const records = [record('a', 10), record('b', 20), record('a', 35), record('a', 40)]
  expect(repeatsIn(records)).toEqual([
    { atMs: 35, afterMs: 25 },
    { atMs: 40, afterMs: 30 },
  ])
})

test('a switch that was not finished, a breach and a repeat that is too old each fail the drill', () => {
  expect(switchingFailures(result())).toEqual([])
  const cases = [{ name: 'wal to polling', fromMs: 0, tookMs: 1, error: 'it stays' }]
  expect(switchingFailures(result({ cases }))).toEqual(['wal to polling: it stays'])
  const findings = [{ promise: 'I1' as const, what: 'position 1' }]
  const verdict = { findings } as unknown as SwitchingResult['verdict']
  expect(switchingFailures(result({ verdict }))).toEqual(['1 breaches of promises'])
  const repeats = [{ atMs: 20_000, afterMs: 15_001 }]
  expect(switchingFailures(result({ repeats }))[0]).toMatch(/^1 records came again/)
})

test('every direction has every one of its places, killed and frozen', () => {
  expect(directions).toHaveLength(6)
  const places = directions.reduce((sum, direction) => sum + placesOf(direction).length, 0)
  expect(casesOf(undefined)).toHaveLength(2 * places)
  expect(placesOf({ from: 'debezium', to: 'wal' })).toContain('at drop slot')
})
