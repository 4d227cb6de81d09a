import { randomUUID } from 'node:crypto'
import { topicOffsets } from 'kafka/admin'
import { runConsumer } from 'kafka/consumer'
import { createTopic, deleteTopic } from 'kafka/test-topics'
import { waitUntil } from 'local-stack'
import { BenchError, mustEqual } from './errors.ts'

export const partitions = 12

/** An empty topic of this name, whatever there was before. */
export async function newTopic(brokers: readonly string[], topic: string): Promise<void> {
  if (await exists(brokers, topic)) {
    await deleteTopic(brokers, topic)
    await waitUntil(async () => !(await exists(brokers, topic)), {
      what: `topic ${topic} to be gone`,
      deadlineMs: 30_000,
    })
  }
  await createTopic(brokers, topic, partitions)
}

async function exists(brokers: readonly string[], topic: string): Promise<boolean> {
  try {
    await topicOffsets({ brokers, topic })
    return true
  } catch (error) {
    if ((error as { code?: string }).code === 'topic_missing') return false
    throw error
  }
}

/** How many records a topic holds. */
export async function recordsIn(brokers: readonly string[], topic: string): Promise<number> {
  const offsets = await topicOffsets({ brokers, topic })
  return [...offsets.values()].reduce((sum, { low, high }) => sum + Number(high - low), 0)
}

/**
 * Reads a whole topic and throws `violation` unless each account's versions are there from 1 up to
 * `versions`, first seen in order, each the same event whenever it is there, and nothing else is. Gives how many records are repeats:
 * delivery is at least once, and a slow broker makes a producer send a batch again.
 */
export async function checkVersions(
  brokers: readonly string[],
  topic: string,
  expected: { accounts: number; versions: number },
): Promise<{ repeats: number }> {
  const total = await recordsIn(brokers, topic)
  /** Of each account, its events' ids in version order. */
  const seen = new Map<string, string[]>()
  const done = new AbortController()
  const timeout = AbortSignal.timeout(120_000)
  let read = 0
  await runConsumer({
    brokers,
    groupId: `bench-check-${randomUUID()}`,
    topic,
    signal: AbortSignal.any([done.signal, timeout]),
    onBatch: async ({ records }) => {
      for (const { key, headers } of records) {
        const account = String(key)
        const version = Number(headers['ce_sequence'])
        const ids = seen.get(account) ?? []
        const id = String(headers.id)
        if (version >= 1 && version <= ids.length) {
          mustEqual(
            `version ${version} of ${account}, once more`,
            id,
            ids[version - 1] ?? 'nothing',
          )
          continue
        }
        mustEqual(`the next version of ${account}`, version, ids.length + 1)
        ids.push(id)
        seen.set(account, ids)
      }
      read += records.length
      if (read >= total) done.abort()
      return { next: records.at(-1)!.offset + 1n }
    },
  })
  if (!done.signal.aborted) {
    throw new BenchError('violation', `only ${read} of ${total} records could be read back`)
  }
  mustEqual('accounts in the topic', seen.size, expected.accounts)
  const atLast = [...seen.values()].filter((ids) => ids.length === expected.versions)
  mustEqual('accounts at their last version', atLast.length, expected.accounts)
  return { repeats: total - expected.accounts * expected.versions }
}
