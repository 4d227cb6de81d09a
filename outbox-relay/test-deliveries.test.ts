import { expect, test } from 'vitest'
import { type Delivery, violationsOf } from './test-deliveries.ts'

const events = (...names: string[]): Delivery[] =>
  names.map((name) => {
    const [aggregateId = '', version] = name.split('@')
    return { aggregateId, version: Number(version) }
  })
const committed = events('a@1', 'a@2', 'b@1')
const none = { lost: 0, outOfOrder: 0, repeated: 0, phantom: 0 }

test.each([
  ['aggregates in any order between them are no violation', ['b@1', 'a@1', 'a@2'], {}],
  ['an event that never comes is lost', ['a@1', 'a@2'], { lost: 1 }],
  [
    'an event after a later one of its own is out of order',
    ['a@2', 'a@1', 'b@1'],
    { outOfOrder: 1 },
  ],
  ['an event that comes twice is repeated', ['a@1', 'a@1', 'a@2', 'b@1'], { repeated: 1 }],
  ['an event that was not committed is a phantom', ['a@1', 'a@2', 'b@1', 'b@2'], { phantom: 1 }],
])('%s', (_what, delivered, expected) => {
  expect(violationsOf(committed, events(...delivered))).toEqual({ ...none, ...expected })
})
