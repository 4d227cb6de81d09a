import * as fc from 'fast-check'
import kafkajs from 'kafkajs'
import { expect, test } from 'vitest'
import { Partitioner, partitionOf } from './partition.ts'

const theirs = kafkajs.Partitioners.DefaultPartitioner()

function partitionByKafkajs(key: string, partitions: number): number {
  const partitionMetadata = Array.from({ length: partitions }, (_, partitionId) => ({
    partitionErrorCode: 0,
    partitionId,
    leader: 1,
    replicas: [1],
    isr: [1],
  }))
  return theirs({ topic: 'any', partitionMetadata, message: { key, value: null } })
}

test('a key goes to the partition that the Java client gives it', () => {
  // By org.apache.kafka.common.utils.Utils.murmur2 of Kafka 4.3.1.
  expect(partitionOf('account-1', 12)).toBe(8)
  expect(partitionOf('21', 1_000)).toBe(340)
  expect(partitionOf('Ünïcode-☃-𝄞', 1_000)).toBe(5)
})

const partitioner = new Partitioner()

test('every key goes to the partition that kafkajs gives it', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', minLength: 1, maxLength: 80 }),
      fc.integer({ min: 1, max: 200 }),
      (key, partitions) => {
        expect(partitionOf(key, partitions)).toBe(partitionByKafkajs(key, partitions))
        expect(partitioner.partitionOf(key, partitions)).toBe(partitionOf(key, partitions))
      },
    ),
    { numRuns: 2_000 },
  )
})

test('a key is hashed as UTF-8, whether it comes as text or as bytes', () => {
  expect(partitionOf(Buffer.from('Zoë'), 97)).toBe(partitionOf('Zoë', 97))
})

test('a key longer than what the partitioner keeps goes where it belongs', () => {
  const key = '☃'.repeat(2_000)
  expect(partitioner.partitionOf(key, 97)).toBe(partitionOf(key, 97))
})
