// A topic of three partitions without Kafka, and who projects it.
import { randomUUID } from 'node:crypto'
import type { ConsumedRecord } from 'kafka/consumer'
import { partitionOf } from 'kafka/partition'
import type { OutboxRow } from 'outbox-relay/wire'
import type { Pool } from 'pg'
import { applyChunk } from './chunk.ts'
import { databaseFault } from './database-fault.ts'
import type { Projection } from './projection.ts'
import { consumed } from './test-events.ts'
import { drawsOf } from './test-story.ts'

const partitions = [0, 1, 2] as const
const longestChunk = 80

type Consumed = { applied: number; duplicates: number; held: number; failures: number }

/** `pool` is of the role sluice_projector. */
export function openTestLog(pool: Pool, rows: readonly OutboxRow[]) {
  const topic = `log-${randomUUID()}`
  const topicId = randomUUID()
  const records = partitions.map((partition) =>
    rows
      .filter((row) => partitionOf(row[3], partitions.length) === partition)
      .map((row, offset) => consumed(row, BigInt(offset))),
  )

  const apply = (
    projection: Projection,
    { partition, from, end }: { partition: number; from: number; end: number },
  ) => {
    const fetchOffset = BigInt(from)
    const own: ConsumedRecord[] = records[partition]!.slice(from, end)
    return applyChunk(
      { pool, projection, topicId },
      { topic, partition, fetchOffset, records: own },
    )
  }

  /** From the beginning on, as an owner of the partition that seeks to what is stored. */
  async function consumePartition(partition: number, projection: Projection, seed: number) {
    const draw = drawsOf(seed * partitions.length + partition)
    const sum: Consumed = { applied: 0, duplicates: 0, held: 0, failures: 0 }
    for (let from = 0; from < records[partition]!.length;) {
      const end = from + 1 + draw(longestChunk)
      try {
        const outcome = await apply(projection, { partition, from, end })
        from = Number(outcome.kind === 'moved' ? outcome.stored.next : outcome.next)
        if (outcome.kind === 'moved') continue
        sum.applied += outcome.applied
        sum.duplicates += outcome.duplicates
        sum.held += outcome.held
      } catch (error) {
        if (databaseFault(error) !== 'passing') throw error
        sum.failures += 1
      }
    }
    return sum
  }

  return {
    apply,
    lengthOf: (partition: number) => records[partition]!.length,
    /** All of it, in chunks cut by the seed, the partitions side by side. */
    async consume(projection: Projection, seed: number): Promise<Consumed> {
      const owners = partitions.map((partition) => consumePartition(partition, projection, seed))
      await Promise.allSettled(owners)
      const sums = await Promise.all(owners)
      const sumOf = (key: keyof Consumed) => sums.reduce((sum, each) => sum + each[key], 0)
      return {
        applied: sumOf('applied'),
        duplicates: sumOf('duplicates'),
        held: sumOf('held'),
        failures: sumOf('failures'),
      }
    },
  }
}
