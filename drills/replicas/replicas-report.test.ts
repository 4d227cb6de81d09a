import { expect, test } from 'vitest'
import { rest } from '../test-rest.ts'
import { cases } from './cases.ts'
import { type ReplicasResult, untimely } from './replicas-drill.ts'
import { replicasFailures, replicasLines } from './replicas-report.ts'

const result = (changes: Partial<ReplicasResult> = {}): ReplicasResult => ({
  ...rest(),
  cases: [900, 1_400, 1_200].map((leaseMs) => ({
    name: 'SIGKILL',
    takeover: { leaseMs, sendingMs: leaseMs + 100 },
    wrong: [],
  })),
  leaseMs: 1_000,
  ...changes,
})

test('takeovers are told by their middle and their worst', () => {
  const [taken, sending] = replicasLines(result())
  expect(taken).toBe('takeovers  3, ms p50 1200, max 1400, lease 1000, at most 2000')
  expect(sending).toBe('sending    3, ms p50 1300, max 1500')
})

test('whatever was wrong in a case fails the drill, and so does what is not as it should be at rest', () => {
  const whole = { only: undefined }
  expect(replicasFailures(result(), whole)).toEqual([])
  const wrong = [{ name: 'clock', takeover: undefined, wrong: ['nobody leads'] }]
  expect(replicasFailures(result({ cases: wrong }), whole)).toEqual(['clock: nobody leads'])
  const unexpected = ['third-relay: 3']
  expect(replicasFailures(result({ unexpected }), whole)).toEqual([
    'ended by itself: third-relay: 3',
  ])
  const left = ['slots left behind: a']
  expect(replicasFailures(result({ left }), whole)).toEqual(['at rest: slots left behind: a'])
})

test('the leader is killed ten times at least, and every clock moved both ways', () => {
  expect(cases.filter(({ kind }) => kind === 'SIGKILL').length).toBeGreaterThanOrEqual(10)
  expect(cases.filter(({ kind }) => kind === 'clock')).toHaveLength(4)
  expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length)
})

test('a takeover that comes too late, sends too late, or comes before the lease has run out, is wrong', () => {
  const after = (leaseMs: number, sendingMs = leaseMs) => untimely({ leaseMs, sendingMs }, 1_000)
  expect([33, 499].flatMap((ms) => after(ms))).toHaveLength(2)
  expect([670, 1_000, 2_000].flatMap((ms) => after(ms))).toEqual([])
  expect(after(2_001)).toEqual(['taken over after more than 2000 ms'])
  expect(after(1_500, 2_001)).toEqual(['nothing sent for more than 2000 ms'])
})
