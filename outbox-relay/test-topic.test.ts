import { partitionOf } from 'kafka/partition'
import type { DumpedRecord } from 'kafka/topic-dump'
import { expect, test } from 'vitest'
import { findingsIn, kept } from './test-topic.ts'

const partitions = 3

function record(name: string, change: Partial<DumpedRecord> = {}): DumpedRecord {
  const [key = '', version = ''] = name.split('@')
  const headers = [['id', name] as const, ['ce_sequence', version] as const]
  const partition = partitionOf(key, partitions)
  return { partition, offset: 0n, key, value: '{}', headers, ...change }
}

const records = (...names: string[]) => names.map((name) => record(name))
const committed = ['a@1', 'a@2', 'b@1'].map((id) => {
  const [aggregateId = '', version] = id.split('@')
  return { id, aggregateId, version: Number(version) }
})
const elsewhere = (partitionOf('b', partitions) + 1) % partitions

test.each([
  ['aggregates in any order between them are fine', records('b@1', 'a@1', 'a@2'), {}],
  [
    'a run that is sent again is only a repetition',
    records('a@1', 'a@2', 'b@1', 'a@1', 'a@2'),
    { repeated: 2 },
  ],
  ['an event that never comes is lost', records('a@1', 'a@2'), { lost: 1 }],
  [
    'an event after a later one of its own is out of order',
    records('a@2', 'a@1', 'b@1'),
    { outOfOrder: 1 },
  ],
  [
    'an event that was not committed is a phantom',
    records('a@1', 'a@2', 'b@1', 'b@2'),
    { phantom: 1 },
  ],
  [
    'an event under the key of another is a phantom',
    [
      ...records('a@1', 'a@2'),
      record('b@1', { key: 'c', partition: partitionOf('c', partitions) }),
    ],
    { phantom: 1 },
  ],
  [
    'an event with the version of another is a phantom',
    [
      ...records('a@1', 'a@2'),
      record('b@1', {
        headers: [
          ['id', 'b@1'],
          ['ce_sequence', '7'],
        ],
      }),
    ],
    { phantom: 1 },
  ],
  [
    'an event in another partition is misplaced',
    [...records('a@1', 'a@2'), record('b@1', { partition: elsewhere })],
    { misplaced: 1 },
  ],
  [
    'an event that comes again with another payload is changed',
    [...records('a@1', 'a@2', 'b@1'), record('b@1', { value: '{ }' })],
    { repeated: 1, changed: 1 },
  ],
])('%s', (_what, dump, expected) => {
  expect(findingsIn(dump, committed, partitions)).toEqual({ ...kept, repeated: 0, ...expected })
})
