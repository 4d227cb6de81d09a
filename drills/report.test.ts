import { expect, test } from 'vitest'
import { controls } from './controls.ts'
import type { DrillResult } from './drill.ts'
import { schedule } from './faults.ts'
import { commandKinds as kinds, type CommandKind } from './history.ts'
import { seededRandom } from './random.ts'
import { failures, narrowed, restFailures } from './report.ts'
import { rest } from './test-rest.ts'

// What a drill must not call PASSED.

/** A whole run without a breach, in which the commands named were accepted, and all others refused. */
function runWith(accepted: readonly CommandKind[] = kinds): DrillResult {
  const history = Array.from({ length: 1_000 }, (_, n) => {
    const kind = kinds[n % kinds.length]!
    const outcome = accepted.includes(kind) ? ('ok' as const) : ('refused' as const)
    const entry = { key: `key-${n}`, kind, account: 'a', amount: 1n, sentMs: 0, status: 201 }
    return { ...entry, first: outcome, final: outcome, version: null }
  })
  const figures = {
    committed: 1_000,
    delivered: 1_000,
    repeated: 50,
    lost: 0,
    phantom: 0,
    outOfOrder: 0,
    repeats: [],
    moneyDrift: 0n,
  }
  return {
    seed: 1,
    faults: schedule(seededRandom(2), 'standard').map(({ kind, detail }, n) => ({
      kind,
      detail,
      atMs: n,
      recoveryMs: 1_000,
    })),
    verdict: { findings: [], figures },
    history,
    skipped: 35,
    samples: [{ next: 1n, gaps: [], atMs: 0, epoch: '1' }],
    relayKills: { total: 30, inFlight: 20 },
    unexpected: [],
    left: [],
    quarantined: {},
    tookMs: 1,
  }
}

const whole = { size: 'standard', only: undefined, withFaults: true, withControls: true } as const
const caught = controls.map(({ name }) => ({ name, caught: true, broken: {} }))
const failed = (changed: Partial<ReturnType<typeof runWith>>) =>
  failures({ ...runWith(), ...changed }, caught, whole)

test('a run in which all was done and every kind of command was accepted may pass', () => {
  expect(failures(runWith(), caught, whole)).toEqual([])
})

test('a run in which no transfer ever committed is no proof of anything about transfers', () => {
  const run = runWith(kinds.filter((kind) => kind !== 'transfer'))
  expect(failures(run, caught, whole)).toEqual(['no command transfer was accepted'])
})

test('a run in which only accounts were opened is no proof', () => {
  expect(failures(runWith(['open']), caught, whole)).toHaveLength(kinds.length - 1)
})

test('a run without faults is none of a schedule', () => {
  const { kind } = schedule(seededRandom(1), 'standard')[0]!
  expect(failed({ faults: [] }).join()).toContain(`${kind}: 0 of `)
})

test.each([...new Set(runWith().faults.map(({ kind }) => kind))])(
  'one fault %s too few is told, and one that nothing recovered from',
  (missing) => {
    const { faults } = runWith()
    const at = faults.findIndex(({ kind }) => kind === missing)
    const told = [expect.stringContaining(`${missing}: `)]
    expect(failed({ faults: faults.toSpliced(at, 1) })).toEqual(told)
    const stuck = { ...faults[at]!, recoveryMs: null }
    expect(failed({ faults: faults.with(at, stuck) })).toEqual(told)
  },
)

test('a run killed too few relays, or none with a batch in flight', () => {
  expect(failed({ relayKills: { total: 19, inFlight: 15 } })).toEqual(['only 19 relay kills'])
  expect(failed({ relayKills: { total: 20, inFlight: 14 } })).toEqual([
    'only 14 kills hit a batch in flight',
  ])
})

test('a run that never looked at progress says nothing of I9', () => {
  expect(failed({ samples: [] })).toEqual([expect.stringContaining('I9')])
})

test('a run may leave a tenth of its commands unsent, and no more', () => {
  expect(failed({ skipped: 100 })).toEqual([])
  expect(failed({ skipped: 101 })).toEqual(['101 commands not sent, beside 1000'])
})

test('each control that was not run, or not caught, fails a run that has them', () => {
  const blind = caught.with(0, { ...caught[0]!, caught: false })
  expect(failures(runWith(), [], whole)).toEqual(
    controls.map(({ name }) => `control not run: ${name}`),
  )
  expect(failures(runWith(), blind, whole)).toEqual([`control not caught: ${controls[0]!.name}`])
  expect(failures(runWith(), [], { ...whole, withControls: false })).toEqual([])
})

test('a run of some faults needs no others', () => {
  const none = { faults: [], samples: [], relayKills: { total: 0, inFlight: 0 } }
  const run = { ...runWith(), ...none }
  expect(failures(run, caught, { ...whole, only: 'slow' })).toEqual([])
  expect(failures(run, caught, { ...whole, withFaults: false })).toEqual([])
})

test('whatever a drill does, at rest nothing is broken, ended, left, unseen, unsent or refused', () => {
  const told = (changes: Partial<ReturnType<typeof rest>>, only?: string) =>
    restFailures(rest(changes), { only })
  expect(told({})).toEqual([])
  const findings = [{ promise: 'I1' as const, what: 'position 1' }]
  expect(told({ verdict: { ...rest().verdict, findings } })).toEqual(['1 breaches of promises'])
  expect(told({ unexpected: ['relay: 3'] })).toEqual(['ended by itself: relay: 3'])
  expect(told({ left: ['slots left behind: a'] })).toEqual(['at rest: slots left behind: a'])
  expect(told({ samples: [] })).toEqual([expect.stringContaining('I9')])
  expect(told({ skipped: 1 })).toEqual([])
  expect(told({ skipped: 2 }, 'wal')).toEqual(['2 commands not sent, beside 15'])
  const { history } = rest()
  const refused = history.map((entry) => ({ ...entry, final: 'refused' as const }))
  expect(told({ history: refused }, 'wal')).toEqual(['only 0 of 15 commands were accepted'])
  expect(told({ history: [] }, 'wal')).toEqual(['only 0 of 0 commands were accepted'])
})

test('of every kind of command some are accepted, but in a part of a drill', () => {
  const history = rest().history.filter(({ kind }) => kind !== 'reverse')
  expect(restFailures(rest({ history }), { only: undefined })).toEqual([
    'no command reverse was accepted',
  ])
  expect(restFailures(rest({ history }), { only: 'wal' })).toEqual([])
})

test('a result says what the run left out', () => {
  expect(narrowed(whole)).toBe('')
  expect(narrowed({ only: 'slow', withFaults: true, withControls: false })).toBe(
    " (only 'slow', without controls)",
  )
  expect(narrowed({ ...whole, withFaults: false })).toBe(' (without faults)')
})
