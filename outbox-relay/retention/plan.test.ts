import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  aheadOf,
  alarmsOf,
  type Partition,
  type Partitions,
  toHold,
  toMake,
  toRetire,
  waitingFor,
} from './plan.ts'

const settings = { positions: 100n, ahead: 4, retentionSeconds: 60, maxBytes: 1_000 }

/** The nth of 100 positions, attached, with nothing of it published. */
const partition = (n: number, given: Partial<Partition> = {}): Partition => ({
  name: `events_${n}`,
  range: { first: BigInt(n * 100 + 1), last: BigInt(n * 100 + 100) },
  state: 'attached',
  bytes: 100,
  published: false,
  record: null,
  ...given,
})

const record = { step: 'kept', isOldEnough: true, slotBehind: null } as const
const done = { published: true, record }
const of = (lastDrawn: number, ...all: Partition[]): Partitions => ({
  all,
  lastDrawn: BigInt(lastDrawn),
})
const names = (partitions: readonly Partition[]) => partitions.map(({ name }) => name)

test('what is made follows the last partition, until enough of it is unused', () => {
  const two = of(50, partition(0), partition(1))
  expect(aheadOf(two)).toBe(1)
  expect(toMake(two, settings)).toEqual([
    { first: 201n, last: 300n },
    { first: 301n, last: 400n },
    { first: 401n, last: 500n },
  ])
  // Commands failed for want of a partition, and drew positions.
  expect(toMake(of(450, partition(0), partition(1)), settings).at(-1)).toEqual({
    first: 801n,
    last: 900n,
  })
  expect(toMake(of(0), settings)).toEqual([])
  expect(toMake(of(1e9, partition(0)), settings)).toHaveLength(100)
})

test('a hole ahead counts as the end: a command fails there', () => {
  const hole = of(50, partition(0), partition(1), partition(3), partition(4), partition(5))
  expect(aheadOf(hole)).toBe(1)
  expect(aheadOf(of(150, partition(0), partition(3)))).toBe(0)
  expect(alarmsOf(of(150, partition(0), partition(3)), settings)).toMatchObject([
    { code: 'partitions_few', isCritical: true },
  ])
})

test('an alarm comes at less than half of what is to be ahead, critical at none', () => {
  const some = (count: number) =>
    of(50, ...Array.from({ length: count + 1 }, (_, n) => partition(n)))
  expect(alarmsOf(some(2), settings)).toEqual([])
  expect(alarmsOf(some(1), settings)).toMatchObject([{ isCritical: false }])
  expect(alarmsOf(some(0), settings)).toMatchObject([{ isCritical: true }])
})

test('what is too large goes by age no more, and what cannot go is told', () => {
  const young = { published: true, record: { ...record, isOldEnough: false } }
  const three = of(250, partition(0, young), partition(1, young), partition(2))
  expect(toRetire(three, settings)).toEqual([])
  expect(waitingFor(three, settings)).toBe('events_0: younger than 60 s')
  expect(names(toRetire(three, { ...settings, maxBytes: 250 }))).toEqual(['events_0'])
  const behind = { published: true, record: { ...record, slotBehind: 'other' } }
  const stuck = of(250, partition(0, behind), partition(1), partition(2))
  expect(toRetire(stuck, { ...settings, maxBytes: 0 })).toEqual([])
  expect(alarmsOf(stuck, { ...settings, ahead: 0, maxBytes: 0 })).toMatchObject([
    { code: 'outbox_large', text: expect.stringContaining('slot other has not passed it') },
  ])
})

test('what was begun is finished first; what is not ours stays, and nothing is begun beside it', () => {
  const ours = { ...done, state: 'pending', record: { ...record, step: 'retiring' } } as const
  const begun = of(250, partition(1, done), partition(2), partition(0, ours))
  expect(names(toRetire(begun, settings))).toEqual(['events_0', 'events_1'])
  expect(toHold(begun)).toEqual([])
  expect(waitingFor(begun, settings)).toBe(
    'events_0: a transaction that uses outbox.events is open',
  )
  const stepped = of(250, partition(1), partition(2), partition(0, { ...ours, published: false }))
  expect(toRetire(stepped, settings)).toEqual([])
  expect(names(toHold(stepped))).toEqual(['events_0'])
  const foreign = of(250, partition(1, done), partition(0, { ...done, state: 'pending' }))
  expect(toRetire(foreign, settings)).toEqual([])
  expect(alarmsOf(foreign, { ...settings, ahead: 0 })).toMatchObject([{ code: 'partition_apart' }])
})

test('whatever there is, nothing goes that somebody still needs', () => {
  const anyPartition = fc.record({
    state: fc.constantFrom('attached', 'pending', 'detached'),
    published: fc.boolean(),
    record: fc.option(
      fc.record({
        step: fc.constantFrom('kept', 'retiring', 'held'),
        isOldEnough: fc.boolean(),
        slotBehind: fc.option(fc.constant('slot')),
      }),
    ),
  })
  fc.assert(
    fc.property(fc.array(anyPartition, { maxLength: 6 }), fc.nat(500), (all, maxBytes) => {
      const partitions = of(250, ...all.map((each, n) => partition(n, each)))
      for (const { published, record, state } of toRetire(partitions, { ...settings, maxBytes })) {
        expect(published).toBe(true)
        expect(record).toMatchObject({ slotBehind: null })
        expect(record?.step).not.toBe('held')
        if (state !== 'attached') expect(record?.step).toBe('retiring')
      }
    }),
  )
})
