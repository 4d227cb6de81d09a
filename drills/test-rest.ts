import type { AtRest } from './at-rest.ts'
import { commandKinds } from './history.ts'

/** What is found at rest after a drill in which nothing went wrong. */
export function rest(changes: Partial<AtRest> = {}): AtRest {
  const none = { committed: 0, delivered: 0, repeated: 0, lost: 0, phantom: 0, outOfOrder: 0 }
  const answered = { account: 'a', amount: 1n, sentMs: 0, status: 201, version: 1 }
  return {
    verdict: { findings: [], figures: { ...none, repeats: [], moneyDrift: 0n } },
    quarantined: {},
    records: [],
    history: commandKinds.map((kind) => ({
      key: kind,
      kind,
      ...answered,
      first: 'ok',
      final: 'ok',
    })),
    skipped: 0,
    samples: [{ next: 1n, gaps: [], atMs: 0, epoch: '1' }],
    unexpected: [],
    left: [],
    ...changes,
  }
}
