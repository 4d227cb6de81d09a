import assert from 'node:assert'
import type { Message, Producer as KafkajsProducer, Transaction } from 'kafkajs'
import { settledWithin } from 'service/backoff'
import { kafkaClient, type KafkaLog } from './client.ts'
import { KafkaError, protocolErrorOf } from './errors.ts'
import { partitionByKey } from './kafkajs-messages.ts'

// Writes records and the progress of a consumer group in one Kafka transaction: both are there, or
// neither. Invariants:
// 1. Of a name there is one owner: opening takes it over, ends what its predecessor left open, and
//    from then on Kafka refuses everything that one sends, however late it wakes up.
// 2. Nothing is tried again here. After a failure the outcome is not known, and whether this process
//    is still the one to write is the group's to say: only who was assigned may open again.

export type TransactionalSettings = {
  brokers: readonly string[]
  /** The transactional id: the same for every process that does this work. */
  name: string
  log?: KafkaLog
}

/** How far a group is with one partition of what it reads. */
export type GroupProgress = {
  groupId: string
  topic: string
  partition: number
  next: bigint
  /** Kept with it, as it is. */
  note: string
}

export type KeyedRecord = { key: string; value: string | null }

export type TransactionalProducer = {
  /**
   * Throws `producer_fenced` when the name has another owner, and what the library throws; then this
   * producer is of no more use.
   */
  write(topic: string, records: readonly KeyedRecord[], progress: GroupProgress): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

const closeLimitMs = 3_000
const transactionTimeoutMs = 30_000

// INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED.
const fencings = new Set([47, 48, 49, 90])

/** Takes over the name. What its last owner left open is over when this resolves. */
export async function openTransactionalProducer(
  settings: TransactionalSettings,
): Promise<TransactionalProducer> {
  const { brokers, name, log } = settings
  // Ending a predecessor's transaction takes Kafka a moment, during which it refuses.
  const client = kafkaClient({ brokers, clientId: name, retries: 10, ...(log ? { log } : {}) })
  const library = client.producer({
    transactionalId: name,
    transactionTimeout: transactionTimeoutMs,
    idempotent: true,
    allowAutoTopicCreation: false,
    maxInFlightRequests: 1,
    retry: { retries: 3, initialRetryTime: 50 },
    createPartitioner: () => partitionByKey,
  })
  const close = () => settledWithin(library.disconnect(), closeLimitMs)
  try {
    await library.connect()
    // The library takes the name over at its first transaction.
    await (await library.transaction()).abort()
  } catch (error) {
    await close()
    throw error
  }
  return { write: writing(library, name), [Symbol.asyncDispose]: close }
}

function writing(library: KafkajsProducer, name: string): TransactionalProducer['write'] {
  let failed = false
  return async (topic, records, progress) => {
    assert(!failed, 'a producer that failed must be opened anew')
    try {
      await writeOnce(await library.transaction(), topic, records, progress)
    } catch (error) {
      failed = true
      const refusal = protocolErrorOf(error)
      if (refusal === undefined || !fencings.has(refusal.code)) throw error
      const message = `${name} has another owner: ${refusal.type}`
      throw new KafkaError('producer_fenced', message, { cause: error })
    }
  }
}

async function writeOnce(
  transaction: Transaction,
  topic: string,
  records: readonly KeyedRecord[],
  { groupId, note, ...progress }: GroupProgress,
): Promise<void> {
  try {
    if (records.length > 0) {
      const messages: Message[] = records.map(({ key, value }) => ({ key, value }))
      const answers = await transaction.send({ topic, messages, acks: -1 })
      assert(answers.length > 0, 'records were sent and nobody answered')
    }
    const offset = String(progress.next)
    const partitions = [{ partition: progress.partition, offset, metadata: note }]
    await transaction.sendOffsets({
      consumerGroupId: groupId,
      topics: [{ topic: progress.topic, partitions }],
    })
    await transaction.commit()
  } catch (error) {
    // Only so that readers need not wait for the next owner to do it.
    if (transaction.isActive()) await settledWithin(transaction.abort(), closeLimitMs)
    throw error
  }
}

export type ProgressQuestion = { brokers: readonly string[]; groupId: string; topic: string }

/** What a group's transactions have committed, by partition; one without progress is left out. */
export async function groupProgress({
  brokers,
  groupId,
  topic,
}: ProgressQuestion): Promise<Map<number, { next: bigint; note: string }>> {
  const admin = kafkaClient({ brokers, clientId: groupId }).admin()
  try {
    await admin.connect()
    const [answer] = await admin.fetchOffsets({ groupId, topics: [topic] })
    const known = (answer?.partitions ?? []).filter(({ offset }) => Number(offset) >= 0)
    return new Map(
      known.map(({ partition, offset, metadata }) => [
        partition,
        { next: BigInt(offset), note: metadata ?? '' },
      ]),
    )
  } finally {
    await admin.disconnect()
  }
}
