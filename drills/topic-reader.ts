import { randomUUID } from 'node:crypto'
import kafkajs from 'kafkajs'

// The one file here that knows a Kafka client, used directly: what the product's own consumer would
// leave out, the checker must still see.

/** What a topic takes unless it is told otherwise, in bytes. */
export const usualLargest = 1_048_588

/** Has a topic take records of so many bytes. */
export async function setLargest(
  brokers: readonly string[],
  topic: string,
  bytes: number,
): Promise<void> {
  const admin = client(brokers).admin()
  await admin.connect()
  try {
    const configEntries = [{ name: 'max.message.bytes', value: String(bytes) }]
    const resource = { type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configEntries }
    await admin.alterConfigs({ validateOnly: false, resources: [resource] })
  } finally {
    await admin.disconnect()
  }
}

export type TopicRecord = {
  partition: number
  offset: bigint
  /** When the broker had it in its log, by the broker's clock. */
  appendedMs: number
  key: string
  value: string
  /** In the order sent; a value may be missing, which the checker reports. */
  headers: readonly (readonly [name: string, value: string | null])[]
}

const { logLevel } = kafkajs

function client(brokers: readonly string[]) {
  return new kafkajs.Kafka({
    brokers: [...brokers],
    clientId: 'drill-checker',
    logLevel: logLevel.NOTHING,
  })
}

/** All records of a topic from offset 0 up to what its end is now, per partition in offset order. */
export async function readTopic(brokers: readonly string[], topic: string): Promise<TopicRecord[]> {
  const kafka = client(brokers)
  const left = await endsOf(kafka, topic)
  const records: TopicRecord[] = []
  if (left.size === 0) return records
  const consumer = kafka.consumer({ groupId: `drill-${randomUUID()}`, sessionTimeout: 30_000 })
  const done = Promise.withResolvers<void>()
  consumer.on(consumer.events.CRASH, ({ payload }) => done.reject(payload.error))
  const limit = setTimeout(() => done.reject(new Error(`${topic} was not read in 60 s`)), 60_000)
  try {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) {
          records.push({
            partition: batch.partition,
            offset: BigInt(message.offset),
            appendedMs: Number(message.timestamp),
            key: String(message.key),
            value: String(message.value),
            headers: Object.entries(message.headers ?? {}).map(([name, value]) => [
              name,
              value === undefined ? null : String(value),
            ]),
          })
        }
        const end = left.get(batch.partition)
        if (end !== undefined && BigInt(batch.lastOffset()) + 1n >= end)
          left.delete(batch.partition)
        if (left.size === 0) done.resolve()
      },
    })
    await done.promise
  } finally {
    clearTimeout(limit)
    await consumer.disconnect()
  }
  return records.toSorted((a, b) => a.partition - b.partition || Number(a.offset - b.offset))
}

/** Where records with this key go, by the rule that every client of Kafka has. */
export async function partitionOf(
  brokers: readonly string[],
  topic: string,
  key: string,
): Promise<number> {
  const admin = client(brokers).admin()
  await admin.connect()
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    const partitionMetadata = topics[0]?.partitions ?? []
    const message = { key, value: null }
    return kafkajs.Partitioners.DefaultPartitioner()({ topic, partitionMetadata, message })
  } finally {
    await admin.disconnect()
  }
}

/** Appends copies of records to where they were: what a leader that was long paused may do. */
export async function repeatRecords(
  brokers: readonly string[],
  topic: string,
  records: readonly TopicRecord[],
): Promise<void> {
  const producer = client(brokers).producer({ allowAutoTopicCreation: false })
  await producer.connect()
  const messages = records.map(({ partition, key, value, headers }) => ({
    partition,
    key,
    value,
    headers: Object.fromEntries(headers.map(([name, each]) => [name, each ?? ''])),
  }))
  await producer.send({ topic, acks: -1, messages })
  await producer.disconnect()
}

/** Where each partition that holds records ends. */
export function topicEnds(brokers: readonly string[], topic: string): Promise<Map<number, bigint>> {
  return endsOf(client(brokers), topic)
}

async function endsOf(kafka: kafkajs.Kafka, topic: string): Promise<Map<number, bigint>> {
  const admin = kafka.admin()
  await admin.connect()
  try {
    const offsets = await admin.fetchTopicOffsets(topic)
    const some = offsets.filter(({ high }) => high !== '0')
    return new Map(some.map(({ partition, high }) => [partition, BigInt(high)]))
  } finally {
    await admin.disconnect()
  }
}
