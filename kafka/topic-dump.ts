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

/**
 * Everything that a topic holds at this moment, in offset order within each partition. Held in
 * memory: for tests and small topics. Throws `topic_missing`, `kafka_unreachable`, and the reason of
 * `signal`.
 */
export async function dumpTopic(
  brokers: readonly string[],
  topic: string,
  signal: AbortSignal = AbortSignal.timeout(60_000),
): Promise<DumpedRecord[]> {
  const ends = new Map<number, bigint>()
  const dumped: DumpedRecord[] = []
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
        dumped.push({
          partition,
          offset,
          key: String(key),
          value: String(value),
          headers: Object.entries(headers).map(([name, each]) => [name, String(each)]),
        })
      }
      if (next >= (ends.get(partition) ?? next)) ends.delete(partition)
      if (ends.size === 0) done.abort()
      return { next }
    },
  })
  if (!done.signal.aborted) signal.throwIfAborted()
  return dumped.toSorted((a, b) => a.partition - b.partition || Number(a.offset - b.offset))
}
