import { expect, test } from 'vitest'
import { rest } from '../test-rest.ts'
import type { TopicRecord } from '../topic-reader.ts'
import { deliveries, type RetentionResult } from './retention-drill.ts'
import { retentionFailures } from './run.ts'

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
  ...rest(),
  records: [record('a', 1_500, 20)],
  wrong: [],
  stretches: [stretch],
  waits: [{ sentMs: 1_500, tookMs: 5 }],
  ...changes,
})

const failures = (changes: Partial<RetentionResult> = {}) =>
  retentionFailures(result(changes), { only: undefined })

test('what took how long is of its stretch of time, and of the first time that it came', () => {
  const records = [record('a', 1_500, 20), record('a', 1_500, 900), record('b', 2_500, 30)]
  expect(deliveries(records, stretch)).toEqual([20])
})

test('what went too early, what waited and what never answered each fail the drill', () => {
  expect(failures()).toEqual([])
  expect(failures({ wrong: ['300 rows are gone'] })).toEqual(['300 rows are gone'])
  const waits = [{ sentMs: 1_500, tookMs: 501 }]
  expect(failures({ waits })).toEqual(['before: commands p99 501 ms'])
  expect(failures({ records: [] })).toEqual(['before: to Kafka p99 Infinity ms'])
})

test('what is not as it should be at rest fails the drill', () => {
  expect(failures({ unexpected: ['outbox-relay: 3'] })).toEqual([
    'ended by itself: outbox-relay: 3',
  ])
  expect(failures({ left: ['slots left behind: a'] })).toEqual(['at rest: slots left behind: a'])
})
