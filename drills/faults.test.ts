import { describe, expect, test } from 'vitest'
import { type Fault, schedule } from './faults.ts'
import { seededRandom } from './random.ts'
import { lineNames } from './stack.ts'

// What a schedule must hold is written out here, and not taken from it: what goes missing there is
// missed by nobody else.

const planned = (seed: number, size: 'smoke' | 'standard' = 'standard') =>
  schedule(seededRandom(seed), size)
const said = (faults: readonly Fault[]) => faults.map(({ kind, detail }) => `${kind} (${detail})`)
const seeds = [1, 2, 53_626_760]

const networkFaults = [
  'line cut',
  'line half-open',
  'line answers-dropped',
  'line latency',
  'line slow',
  'line reset-mid-frame',
]

/** How many of each kind, standard and smoke. */
const wanted: Record<string, [standard: number, smoke: number]> = {
  'outbox-relay killed at random': [4, 1],
  'outbox-relay killed with a batch in flight': [6, 1],
  'outbox-relay killed after read': [2, 2],
  'outbox-relay killed before produce': [2, 2],
  'outbox-relay killed after produce, before ack': [3, 2],
  'outbox-relay killed after ack, before progress': [2, 2],
  'outbox-relay killed inside the progress transaction': [2, 2],
  'outbox-relay killed during shutdown': [2, 2],
  'command-api killed at random': [4, 1],
  'command-api killed before commit': [2, 1],
  'command-api killed after commit, before the answer': [2, 1],
  'query-api killed at random': [4, 1],
  'query-api killed before commit': [2, 1],
  'query-api killed after commit': [2, 1],
  'relay paused, another leads': [2, 1],
  'Kafka killed': [3, 1],
  'Kafka away': [1, 1],
  'PostgreSQL killed': [3, 1],
  'events passed over (gap, lost tail)': [1, 1],
  'read model of another history (conflict)': [1, 1],
  ...Object.fromEntries(networkFaults.map((kind) => [kind, [lineNames.length, 1]])),
}

describe.each(seeds)('the schedule of seed %i', (seed) => {
  test.each(['standard', 'smoke'] as const)('has each kind as often as it must, %s', (size) => {
    const had: Record<string, number> = {}
    for (const { kind } of planned(seed, size)) had[kind] = (had[kind] ?? 0) + 1
    const numbers = Object.entries(wanted).map(([kind, [standard, smoke]]) => [
      kind,
      size === 'standard' ? standard : smoke,
    ])
    expect(had).toEqual(Object.fromEntries(numbers))
  })

  test('kills the relay at least 20 times', () => {
    const kills = planned(seed).filter(({ kind }) => kind.startsWith('outbox-relay killed'))
    expect(kills.length).toBeGreaterThanOrEqual(20)
  })

  test.each(networkFaults)('has a %s on every line', (fault) => {
    const lines = planned(seed)
      .filter(({ kind }) => kind === fault)
      .map(({ detail }) => detail.split(',')[0])
    expect(lines.toSorted()).toEqual(lineNames.toSorted())
  })

  test('keeps Kafka away for 30 s, and the leader beyond its lease of 1 s', () => {
    const details = (name: string) =>
      planned(seed).flatMap(({ kind, detail }) => (kind === name ? [Number.parseInt(detail)] : []))
    expect(details('Kafka away')).toEqual([30_000])
    expect(Math.min(...details('relay paused, another leads'))).toBeGreaterThan(2_000)
  })

  test.each(['standard', 'smoke'] as const)('is the same again, %s', (size) => {
    expect(said(planned(seed, size))).toEqual(said(planned(seed, size)))
  })
})

test('another seed is another order, other passings, other times and other measures', () => {
  const [one, other] = [said(planned(1)), said(planned(2))]
  expect(one).not.toEqual(other)
  // Sorted, so that the order alone is not what differs.
  for (const part of ['passing', 'line cut', 'delayMs', 'afterBytes', 'relay paused']) {
    const of = (all: readonly string[]) => all.filter((each) => each.includes(part)).toSorted()
    expect(of(one)).not.toHaveLength(0)
    expect(of(one)).not.toEqual(of(other))
  }
})

test('nothing is said of passings where none are counted', () => {
  const shutdown = planned(1).filter(({ kind }) => kind.endsWith('during shutdown'))
  expect(shutdown.map(({ detail }) => detail)).toEqual(['', ''])
})
