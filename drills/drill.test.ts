import { expect, test } from 'vitest'
import { unexpectedEndings } from './at-rest.ts'
import { relayKills } from './drill.ts'
import type { DrillStack } from './stack.ts'

/** A relay that was killed at these times, and records that were there, appended once more. */
function kills(killedAtMs: number[], repeated: { firstMs: number; atMs: number }[]) {
  const endings = killedAtMs.map((atMs) => ({ atMs, signal: 'SIGKILL', code: null }))
  const stack = { services: { 'outbox-relay': { endings } } } as unknown as DrillStack
  const repeats = repeated.map((repeat, n) => ({ position: BigInt(n), ...repeat }))
  const none = { committed: 0, delivered: 0, repeated: 0, lost: 0, phantom: 0, outOfOrder: 0 }
  return relayKills(stack, { findings: [], figures: { ...none, repeats, moneyDrift: 0n } })
}

test('a kill whose batch comes again hit something in flight', () => {
  expect(kills([1_000, 50_000], [{ firstMs: 950, atMs: 1_900 }])).toEqual({ total: 2, inFlight: 1 })
})

test('records that a later fault repeats are not the kill`s: it hit nothing', () => {
  // Idle when killed; 12 s later the line to Kafka is cut, which repeats a batch.
  expect(kills([1_000], [{ firstMs: 12_900, atMs: 13_000 }])).toEqual({ total: 1, inFlight: 0 })
})

test('the old records that the drill itself appends at the end are nobody`s kill', () => {
  const copies = Array.from({ length: 50 }, (_, n) => ({ firstMs: 200_000 + n, atMs: 616_000 }))
  expect(kills([600_000], copies)).toEqual({ total: 1, inFlight: 0 })
})

test('an ending that nobody asked for is told, whatever the process ended by', () => {
  const ended = (code: number | null, signal: NodeJS.Signals | null, asked: boolean) =>
    unexpectedEndings({
      processes: [{ label: 'outbox-relay', endings: [{ atMs: 0, code, signal, asked }] }],
    } as unknown as DrillStack)
  expect(ended(null, 'SIGKILL', false)).toEqual([
    'outbox-relay: SIGKILL at 1970-01-01T00:00:00.000Z',
  ])
  expect(ended(0, null, false)).toEqual(['outbox-relay: 0 at 1970-01-01T00:00:00.000Z'])
  expect(ended(null, 'SIGKILL', true)).toEqual([])
})
