// Topics that tests make, and what happens to topics in bad times.
import type { Admin } from 'kafkajs'
import { ensureTopics } from './admin.ts'
import { kafkaClient } from './client.ts'

type Brokers = readonly string[]

/** Kafka's number for a topic among what has settings. */
const topicResource = 2

export async function createTopic(brokers: Brokers, topic: string, partitions: number) {
  const topics = [{ name: topic, partitions, settings: {} }]
  await ensureTopics({ brokers, topics, report: () => {} })
}

/** Changes one setting of a topic, by Kafka's name for it. */
export function setTopic(
  brokers: Brokers,
  { topic, name, value }: { topic: string; name: string; value: string },
) {
  const change = { type: topicResource, name: topic, configEntries: [{ name, value }] }
  return withAdmin(brokers, (admin) =>
    admin.alterConfigs({ validateOnly: false, resources: [change] }),
  )
}

export function deleteTopic(brokers: Brokers, topic: string): Promise<void> {
  return withAdmin(brokers, (admin) => admin.deleteTopics({ topics: [topic] }))
}

/** Deletes a partition's records below an offset, as retention would. */
export function truncateTopic(
  brokers: Brokers,
  { topic, partition, below }: { topic: string; partition: number; below: bigint },
): Promise<void> {
  const partitions = [{ partition, offset: String(below) }]
  return withAdmin(brokers, async (admin) => {
    // The library finds the partition's leader only in what an earlier call has loaded.
    await admin.fetchTopicOffsets(topic)
    await admin.deleteTopicRecords({ topic, partitions })
  })
}

export async function groupNames(brokers: Brokers): Promise<string[]> {
  const { groups } = await withAdmin(brokers, (admin) => admin.listGroups())
  return groups.map(({ groupId }) => groupId)
}

async function withAdmin<T>(brokers: Brokers, use: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = kafkaClient({ brokers, clientId: 'test-topics' }).admin()
  try {
    await admin.connect()
    return await use(admin)
  } finally {
    await admin.disconnect()
  }
}
