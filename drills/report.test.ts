import { expect, test } from 'vitest'
import type { DrillResult } from './drill.ts'
import type { CommandKind } from './history.ts'
import { failures } from './report.ts'

// What a drill must not call PASSED.

/** A whole run without a breach, in which the commands named were accepted, and all others refused. */
function runWith(accepted: readonly CommandKind[]): DrillResult {
  const kinds = ['open', 'deposit', 'withdraw', 'close', 'transfer'] as const
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
    faults: [],
    verdict: { findings: [], figures },
    history,
    skipped: 0,
    relayKills: { total: 30, inFlight: 20 },
    unexpected: [],
    quarantined: {},
    tookMs: 1,
  }
}

test('a run in which every kind of command was accepted may pass', () => {
  expect(failures(runWith(['open', 'deposit', 'withdraw', 'close', 'transfer']), [], true)).toEqual(
    [],
  )
})

test('a run in which no transfer ever committed is no proof of anything about transfers', () => {
  expect(failures(runWith(['open', 'deposit', 'withdraw', 'close']), [], true)).not.toEqual([])
})

test('a run in which only accounts were opened is no proof', () => {
  expect(failures(runWith(['open']), [], true)).not.toEqual([])
})
