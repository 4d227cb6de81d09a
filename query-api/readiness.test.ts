import { expect, test } from 'vitest'
import { lateHeartbeats, lateProjection } from './readiness.ts'
import { newStatus } from './status.ts'

const status = { ...newStatus('accounts'), log: new Map([0, 1].map((p) => [p, log()])) }
const every = { heartbeatSeconds: 1, upSeconds: 1_000 }

function log() {
  return { low: 0n, high: 0n }
}

test.each<[string, [number, number][], object, number]>([
  [
    'all is well',
    [
      [0, 1],
      [1, 12],
    ],
    {},
    0,
  ],
  [
    'just within the limits',
    [
      [0, 10],
      [1, 30],
    ],
    {},
    0,
  ],
  [
    'the newest is late',
    [
      [0, 11],
      [1, 12],
    ],
    {},
    1,
  ],
  [
    'one partition is late',
    [
      [0, 1],
      [1, 31],
    ],
    {},
    1,
  ],
  ['a partition never had one', [[0, 1]], {}, 1],
  ['a partition had none yet, since we only began', [[0, 1]], { upSeconds: 20 }, 0],
  [
    'an old one from before we began',
    [
      [0, 1],
      [1, 500],
    ],
    { upSeconds: 20 },
    0,
  ],
  ['none at all', [], {}, 1],
  [
    'slower heartbeats, longer limits',
    [
      [0, 90],
      [1, 290],
    ],
    { heartbeatSeconds: 10 },
    0,
  ],
  ['none are expected', [], { heartbeatSeconds: 0 }, 0],
])('heartbeats: %s', (_what, ages, changes, sentences) => {
  expect(lateHeartbeats(status, new Map(ages), { ...every, ...changes })).toHaveLength(sentences)
})

test('a stopped partition, a wait, silence and a group not joined are each said', () => {
  const now = status.aliveAtMs + 1_000
  expect(lateProjection(status, now)).toEqual(['projection accounts has not joined its group yet'])
  const joined = { ...status, assigned: [0, 1] }
  expect(lateProjection(joined, now)).toEqual([])
  expect(lateProjection({ ...joined, trouble: 'no room' }, now)[0]).toContain('waits: no room')
  expect(lateProjection(joined, now + 20_000)[0]).toContain('nothing from Kafka for 21 s')
  const reason = { code: 'records_missing', detail: 'gone', offset: 3n } as const
  const stopped = new Map([[1, reason]])
  expect(lateProjection({ ...joined, stopped }, now)[0]).toContain('stopped partition 1: gone')
})
