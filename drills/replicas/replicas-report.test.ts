import { expect, test } from 'vitest'
import { cases } from './cases.ts'
import { type ReplicasResult, untimely } from './replicas-drill.ts'
import { replicasFailures, replicasLines } from './replicas-report.ts'

const none = { committed: 0, delivered: 0, repeated: 0, lost: 0, phantom: 0, outOfOrder: 0 }
const verdict = { findings: [], figures: { ...none, repeats: [], moneyDrift: 0n } }

const result = (changes: Partial<ReplicasResult> = {}): ReplicasResult => ({
  cases: [900, 1_400, 1_200].map((leaseMs) => ({
    name: 'SIGKILL',
    takeover: { leaseMs, sendingMs: leaseMs + 100 },
    wrong: [],
  })),
  verdict,
  quarantined: {},
  records: [],
  skipped: 0,
  leaseMs: 1_000,
  ...changes,
})

test('takeovers are told by their middle and their worst', () => {
  const [taken, sending] = replicasLines(result())
  expect(taken).toBe('takeovers  3, ms p50 1200, max 1400, lease 1000, at most 2000')
  expect(sending).toBe('sending    3, ms p50 1300, max 1500')
})

test('a breach, and whatever was wrong in a case, each fail the drill', () => {
  expect(replicasFailures(result())).toEqual([])
  const wrong = [{ name: 'clock', takeover: undefined, wrong: ['nobody leads'] }]
  expect(replicasFailures(result({ cases: wrong }))).toEqual(['clock: nobody leads'])
  const findings = [{ promise: 'I1' as const, what: 'position 1' }]
  const broken = result({ verdict: { ...verdict, findings } })
  expect(replicasFailures(broken)).toEqual(['1 breaches of promises'])
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
