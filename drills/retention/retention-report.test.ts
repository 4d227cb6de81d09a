import { expect, test } from 'vitest'
import type { TopicRecord } from '../topic-reader.ts'
import { deliveries, type RetentionResult } from './retention-drill.ts'
import { retentionFailures } from './run.ts'

const none = { committed: 0, delivered: 0, repeated: 0, lost: 0, phantom: 0, outOfOrder: 0 }
const verdict = { findings: [], figures: { ...none, repeats: [], moneyDrift: 0n } }
const stretch = { name: 'before', fromMs: 1_000, toMs: 2_000 }

const record = (id: string, atMs: number, tookMs: number): TopicRecord => ({
  partition: 0,
  offset: 0n,
  appendedMs: atMs + tookMs,
  key: 'a',
  value: '{}',
  headers: [
    ['id', id],
    ['ce_time', new Date(atMs).toISOString()],
  ],
})

const result = (changes: Partial<RetentionResult> = {}): RetentionResult => ({
  verdict,
  records: [record('a', 1_500, 20)],
  quarantined: {},
  skipped: 0,
  wrong: [],
  stretches: [stretch],
  waits: [{ sentMs: 1_500, tookMs: 5 }],
  ...changes,
})

test('what took how long is of its stretch of time, and of the first time that it came', () => {
  const records = [record('a', 1_500, 20), record('a', 1_500, 900), record('b', 2_500, 30)]
  expect(deliveries(records, stretch)).toEqual([20])
})

test('what went too early, what waited, what never answered and a breach each fail the drill', () => {
  expect(retentionFailures(result())).toEqual([])
  expect(retentionFailures(result({ wrong: ['300 rows are gone'] }))).toEqual(['300 rows are gone'])
  const waits = [{ sentMs: 1_500, tookMs: 501 }]
  expect(retentionFailures(result({ waits }))).toEqual(['before: commands p99 501 ms'])
  expect(retentionFailures(result({ records: [] }))).toEqual(['before: to Kafka p99 Infinity ms'])
  const findings = [{ promise: 'I1' as const, what: 'position 1' }]
  const broken = result({ verdict: { ...verdict, findings } })
  expect(retentionFailures(broken)).toEqual(['1 breaches of promises'])
})
