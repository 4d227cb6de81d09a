import kafkajs, { type Admin, type ITopicMetadata } from 'kafkajs'
import { backoffMs, pause } from 'service/backoff'
import { kafkaClient, type KafkaLog } from './client.ts'
import { KafkaError, protocolErrorOf } from './errors.ts'

export type TopicSpecification = {
  name: string
  partitions: number
  /** Topic settings by Kafka's names, such as `retention.ms`. */
  settings: Readonly<Record<string, string>>
}

export type EnsureTopicsOptions = {
  brokers: readonly string[]
  topics: readonly TopicSpecification[]
  /** Told one line per topic created. */
  report: (line: string) => void
  log?: KafkaLog
  /** How long a broker that is starting is waited for. 60 s by default. */
  patienceMs?: number
}

const unknownTopic = 3
const topicExists = 36
// Invalid topic, not authorized (topic, cluster), invalid partitions, assignment, config, policy.
const refusals = new Set([17, 29, 31, 37, 39, 40, 44])

/**
 * Creates the topics that are missing, with the brokers' default replication, and returns when every
 * partition of every topic has a leader. Safe to run side by side.
 * Throws `topic_partitions_differ` when a topic exists with another number of partitions (growing it
 * here would split an account's order), `topic_refused` when the brokers do not take its name or its
 * settings, `kafka_unreachable` and `topic_leaders_missing` after `patienceMs`.
 */
export async function ensureTopics(options: EnsureTopicsOptions): Promise<void> {
  const deadline = performance.now() + (options.patienceMs ?? 60_000)
  for (let failures = 0; ;) {
    try {
      return await withAdmin(options, (admin) => createAndCheck(admin, options, deadline))
    } catch (error) {
      if (error instanceof KafkaError) throw error
      failures += 1
      if (performance.now() >= deadline) throw unreachable(options.brokers, error)
      await pause(backoffMs(failures, { firstMs: 100, capMs: 2_000 }))
    }
  }
}

async function createAndCheck(admin: Admin, options: EnsureTopicsOptions, deadline: number) {
  const existing = new Set(await admin.listTopics())
  for (const topic of options.topics) {
    if (existing.has(topic.name)) continue
    if (await createTopic(admin, topic)) {
      options.report(`topic ${topic.name}: created with ${topic.partitions} partitions`)
    }
  }
  for (const topic of options.topics) {
    const partitions = await partitionsWithLeaders(admin, topic.name, deadline)
    if (partitions === topic.partitions) continue
    throw new KafkaError(
      'topic_partitions_differ',
      `topic ${topic.name} has ${partitions} partitions and must have ${topic.partitions}: ` +
        'another number moves keys between partitions and splits their order',
    )
  }
}

/** False when somebody else created it just before. */
async function createTopic(admin: Admin, topic: TopicSpecification): Promise<boolean> {
  const configEntries = Object.entries(topic.settings).map(([name, value]) => ({ name, value }))
  try {
    return await admin.createTopics({
      topics: [{ topic: topic.name, numPartitions: topic.partitions, configEntries }],
      waitForLeaders: false,
    })
  } catch (error) {
    const refusal = protocolErrorOf(error)
    if (refusal?.code === topicExists) return false
    if (refusal === undefined || !refusals.has(refusal.code)) throw error
    throw new KafkaError(
      'topic_refused',
      `Kafka refuses to create topic ${topic.name} (${refusal.type}): look at its name and settings`,
      { cause: error },
    )
  }
}

async function partitionsWithLeaders(admin: Admin, topic: string, deadline: number) {
  for (;;) {
    const found = await metadataOf(admin, topic)
    const led = found?.partitions.every((each) => each.leader >= 0 && each.partitionErrorCode === 0)
    if (found && found.partitions.length > 0 && led) return found.partitions.length
    if (performance.now() >= deadline) {
      throw new KafkaError(
        'topic_leaders_missing',
        `topic ${topic} has partitions without a leader: look at the brokers' logs`,
      )
    }
    await pause(100)
  }
}

/** Undefined while the topic, or the leader of one of its partitions, is not known yet. */
async function metadataOf(admin: Admin, topic: string): Promise<ITopicMetadata | undefined> {
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    return topics[0]
  } catch (error) {
    const type = protocolErrorOf(error)?.type
    if (type === 'UNKNOWN_TOPIC_OR_PARTITION' || type === 'LEADER_NOT_AVAILABLE') return undefined
    throw error
  }
}

export type TopicQuestion = { brokers: readonly string[]; topic: string; log?: KafkaLog }

/**
 * The first and the next offset of every partition: records from `low` up to and without `high`.
 * Throws `topic_missing`, or `kafka_unreachable` after a few seconds.
 */
export async function topicOffsets(
  question: TopicQuestion,
): Promise<Map<number, { low: bigint; high: bigint }>> {
  for (let failures = 0; ;) {
    try {
      const offsets = await withAdmin(question, (admin) => admin.fetchTopicOffsets(question.topic))
      const ordered = offsets.toSorted((a, b) => a.partition - b.partition)
      return new Map(
        ordered.map((each) => [each.partition, { low: BigInt(each.low), high: BigInt(each.high) }]),
      )
    } catch (error) {
      const refusal = protocolErrorOf(error)
      if (refusal?.code === unknownTopic) throw missing(question.topic, error)
      failures += 1
      // A broker learns of a new topic, or of a partition it now leads, a little after it is told so.
      if (refusal === undefined || failures > 5) throw unreachable(question.brokers, error)
      await pause(backoffMs(failures, { firstMs: 100, capMs: 1_000 }))
    }
  }
}

/**
 * The topic's own id (a topic made anew under the same name has another one) and its number of
 * partitions. kafkajs speaks protocol versions without topic ids, so another library is asked; it
 * is loaded here, so that only those pay for it who ask.
 * Throws `topic_missing`, or `kafka_unreachable` after a few seconds.
 */
export async function describeTopic(
  question: TopicQuestion,
): Promise<{ id: string; partitions: number }> {
  const { Admin: MetadataAdmin } = await import('@platformatic/kafka')
  const admin = new MetadataAdmin({
    clientId: 'sluice-describe',
    bootstrapBrokers: [...question.brokers],
    connectTimeout: 3_000,
    timeout: 5_000,
    retries: 3,
    retryDelay: 250,
  })
  try {
    const { topics } = await admin.metadata({ topics: [question.topic], forceUpdate: true })
    const found = topics.get(question.topic)
    if (found === undefined) throw missing(question.topic)
    return { id: found.id, partitions: found.partitionsCount }
  } catch (error) {
    if (error instanceof KafkaError) throw error
    // The library says so in words only; its code for it means any misuse.
    const unknown = error instanceof Error && error.message.startsWith('Unknown topic')
    if (unknown) throw missing(question.topic, error)
    throw unreachable(question.brokers, error)
  } finally {
    await admin.close()
  }
}

/**
 * `max.message.bytes` of the topic that takes least, of those that exist; undefined when none does.
 * Throws what the library throws when no broker answers.
 */
export async function recordLimitOf(question: {
  brokers: readonly string[]
  topics: readonly string[]
}): Promise<number | undefined> {
  return await withAdmin(question, async (admin) => {
    const existing = new Set(await admin.listTopics())
    const topics = question.topics.filter((name) => existing.has(name))
    if (topics.length === 0) return undefined
    const type = kafkajs.ConfigResourceTypes.TOPIC
    const configNames = ['max.message.bytes']
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: topics.map((name) => ({ type, name, configNames })),
    })
    const limits = resources.flatMap(({ configEntries }) => configEntries)
    return Math.min(...limits.map(({ configValue }) => Number(configValue)))
  })
}

async function withAdmin<T>(
  { brokers, log }: { brokers: readonly string[]; log?: KafkaLog },
  use: (admin: Admin) => Promise<T>,
): Promise<T> {
  const client = kafkaClient({ brokers, clientId: 'sluice-admin', ...(log ? { log } : {}) })
  const admin = client.admin()
  try {
    await admin.connect()
    return await use(admin)
  } finally {
    await admin.disconnect()
  }
}

function missing(topic: string, cause?: unknown): KafkaError {
  return new KafkaError('topic_missing', `topic ${topic} does not exist: run npm run migrate`, {
    cause,
  })
}

function unreachable(brokers: readonly string[], cause: unknown): KafkaError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new KafkaError(
    'kafka_unreachable',
    `no answer from Kafka at ${brokers.join(', ')}: ${why}`,
    {
      cause,
    },
  )
}
