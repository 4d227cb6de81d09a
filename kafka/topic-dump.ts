import assert from 'node:assert'
import { randomUUID } from 'node:crypto'
import { topicOffsets } from './admin.ts'
import { runConsumer } from './consumer.ts'

export type DumpedRecord = {
  partition: number
  offset: bigint
  key: string
  value: string
  /** In the order in which they were sent. */
  headers: (readonly [name: string, value: string])[]
}

/** A record as the bytes that it has. */
export type DumpedBytes = Pick<DumpedRecord, 'partition' | 'offset'> & {
  key: Buffer | null
  value: Buffer | null
  headers: (readonly [name: string, value: Buffer | string | undefined])[]
}

/**
 * Everything that a topic holds at this moment, in offset order within each partition. Held in
 * memory: for tests and small topics. Throws `topic_missing`, `kafka_unreachable`, and the reason of
 * `signal`.
 */
export async function dumpTopic(
  brokers: readonly string[],
  topic: string,
  signal?: AbortSignal,
): Promise<DumpedRecord[]> {
  const dumped = await dumpBytes(brokers, topic, signal)
  return dumped.map(({ key, value, headers, ...place }) => ({
    ...place,
    key: String(key),
    value: String(value),
    headers: headers.map(([name, each]) => [name, String(each)]),
  }))
}

/** As `dumpTopic`, of the bytes themselves. */
export async function dumpBytes(
  brokers: readonly string[],
  topic: string,
  signal: AbortSignal = AbortSignal.timeout(60_000),
): Promise<DumpedBytes[]> {
  const ends = new Map<number, bigint>()
  const dumped: DumpedBytes[] = []
  for (const [partition, { low, high }] of await topicOffsets({ brokers, topic })) {
    if (high > low) ends.set(partition, high)
  }
  const done = new AbortController()
  if (ends.size === 0) return dumped
  await runConsumer({
    brokers,
    groupId: `sluice-dump-${randomUUID()}`,
    topic,
    signal: AbortSignal.any([signal, done.signal]),
    onBatch: async ({ partition, records }) => {
      let next = 0n
      for (const { offset, key, value, headers } of records) {
        next = offset + 1n
        if (offset >= (ends.get(partition) ?? 0n)) continue
        const named = Object.entries(headers).map(([name, each]) => {
          assert(!Array.isArray(each), `header ${name} is there more than once`)
          return [name, each] as const
        })
        dumped.push({ partition, offset, key, value, headers: named })
      }
      if (next >= (ends.get(partition) ?? next)) ends.delete(partition)
      if (ends.size === 0) done.abort()
      return { next }
    },
  })
  if (!done.signal.aborted) signal.throwIfAborted()
  return dumped.toSorted((a, b) => a.partition - b.partition || Number(a.offset - b.offset))
}
