import type { SourcePatch } from '../source-patch.ts'

const hourMs = 3_600_000
const kills = 12
const stops = 2

/** What is done to the leader, or to the wall clocks of the leader or of those that stand by. */
export type ReplicaCase = { name: string } & (
  | { kind: 'SIGKILL' }
  | { kind: 'SIGSTOP'; forMs: number }
  | { kind: 'clock'; whose: 'leader' | 'standbys'; byMs: number }
)

const clocks: readonly ReplicaCase[] = (['leader', 'standbys'] as const).flatMap((whose) =>
  ([-hourMs, hourMs] as const).map((byMs) => ({
    name: `clock of the ${whose} an hour ${byMs < 0 ? 'back' : 'forward'}`,
    kind: 'clock' as const,
    whose,
    byMs,
  })),
)

export const cases: readonly ReplicaCase[] = [
  ...clocks,
  ...Array.from({ length: stops }, (_, n) => ({
    name: `SIGSTOP for 45 s, ${n + 1}`,
    kind: 'SIGSTOP' as const,
    forMs: 45_000,
  })),
  ...Array.from({ length: kills }, (_, n) => ({
    name: `SIGKILL ${n + 1}`,
    kind: 'SIGKILL' as const,
  })),
]

/** The product made wrong: the lease is counted on the wall clock. */
export const wallClockLease: readonly SourcePatch[] = [
  {
    file: 'outbox-relay/relay.ts',
    find: 'const now = () => performance.now()\n',
    put: 'const now = () => Date.now()\n',
  },
]
export const clockCases = clocks
