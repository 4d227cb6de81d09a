import type { PartitionBatch } from './produce-request.ts'
import { answersOf, produce, requireConfirmed } from './produce-request.ts'
import { DirectSession } from './direct-session.ts'
import { isRefusal, protocolErrorOf } from './errors.ts'
import { Partitioner } from './partition.ts'
import type { RecordBatch } from './record-batch.ts'
import type { KafkaRecord } from './record.ts'
import type { ProducerSettings, Sender } from './retrying-producer.ts'

// Encodes the record batches itself, one per partition, and sends one request to each leader, all at
// once. Bounds on memory, for requests of at most `limit` bytes unless one record alone is larger:
// - between requests each partition written to keeps a buffer of at most 1 MiB;
// - during a request the buffers hold its records, with room for as much again, and half of that once
//   more while one grows; the library's copy of the request is another;
// - one request per leader is in flight, and nothing is queued behind it.

/** What negative controls of the tests put a wrong one in place of. */
export type SenderRules = {
  /** The sequence number after `count` records from `first` on. */
  nextSequence(first: number, count: number): number
  requireConfirmed: typeof requireConfirmed
}

export const kafkaRules: SenderRules = {
  // After 2^31 - 1 comes 0.
  nextSequence: (first, count) => (first + count) % 2 ** 31,
  requireConfirmed,
}

const connectTimeoutMs = 3_000
const defaultRequestTimeoutMs = 15_000
const metadataMaxAgeMs = 300_000

type Filled = { topic: string; partition: number; leader: string; batch: RecordBatch }

export class DirectSender implements Sender {
  readonly #settings: ProducerSettings
  readonly #rules: SenderRules
  readonly #partitioner = new Partitioner()
  #session: DirectSession | undefined
  #closing: Promise<unknown> = Promise.resolve()

  constructor(settings: ProducerSettings, rules: SenderRules) {
    this.#settings = settings
    this.#rules = rules
  }

  async send(records: readonly KafkaRecord[], beforeRequest: () => void): Promise<void> {
    const session = (this.#session ??= this.#newSession())
    await session.prepare(topicsOf(records))
    requireCurrent(session)
    const filled = this.#fill(records, session)
    try {
      await this.#sendFilled(filled, session, beforeRequest)
    } finally {
      for (const { batch } of filled) batch.clear()
    }
  }

  discard(): void {
    const session = this.#session
    if (session === undefined) return
    this.#session = undefined
    session.end()
    this.#closing = Promise.all([this.#closing, session.connections.closed()])
  }

  async closed(): Promise<void> {
    await this.#closing
  }

  async #sendFilled(filled: Filled[], session: DirectSession, beforeRequest: () => void) {
    const byLeader = [...Map.groupBy(filled, ({ leader }) => leader)]
    const connections = await Promise.all(
      byLeader.map(([leader]) => session.connections.connect(leader)),
    )
    requireCurrent(session)
    const timestampMs = Date.now()
    const sent: Promise<void>[] = []
    try {
      byLeader.forEach(([leader, ofLeader], n) => {
        const batches = ofLeader.map((each) => this.#finish(each, session, timestampMs))
        beforeRequest()
        const brokerWaitMs = Math.round((this.#requestTimeoutMs * 2) / 3)
        const answers = answersOf(
          session.connections.sendNow(leader, connections[n]!, (connection) =>
            produce(connection, batches, brokerWaitMs),
          ),
        )
        sent.push(answers.then((found) => this.#rules.requireConfirmed(batches, found)))
      })
    } finally {
      // Whatever comes of one, nothing else is sent before the others have ended.
      await Promise.allSettled(sent)
    }
    await firstToFail(sent)
  }

  /** Writes each record into the batch of its partition. */
  #fill(records: readonly KafkaRecord[], session: DirectSession): Filled[] {
    const filled: Filled[] = []
    for (const record of records) {
      const { topic } = record
      const { leaders, batches } = session.partitionsOf(topic)
      const partition = this.#partitioner.partitionOf(record.key, leaders.length)
      const batch = batches[partition]!
      if (batch.count === 0) filled.push({ topic, partition, leader: leaders[partition]!, batch })
      batch.append(record)
    }
    return filled
  }

  /** A number once given to a request is not given again, whatever comes of that request. */
  #finish({ topic, partition, batch }: Filled, session: DirectSession, timestampMs: number) {
    const { sequences } = session.partitionsOf(topic)
    const { id: producerId, epoch: producerEpoch } = session.producer
    const firstSequence = sequences[partition] ?? 0
    sequences[partition] = this.#rules.nextSequence(firstSequence, batch.count)
    const bytes = batch.finish({ producerId, producerEpoch, firstSequence, timestampMs })
    return { topic, partition, bytes } satisfies PartitionBatch
  }

  get #requestTimeoutMs(): number {
    return this.#settings.requestTimeoutMs ?? defaultRequestTimeoutMs
  }

  #newSession(): DirectSession {
    const { brokers, clientId } = this.#settings
    const requestTimeoutMs = this.#requestTimeoutMs
    const now = () => performance.now()
    const limits = { connectTimeoutMs, requestTimeoutMs, metadataMaxAgeMs }
    return new DirectSession({ brokers, clientId, now, ...limits })
  }
}

function topicsOf(records: readonly KafkaRecord[]): Set<string> {
  const topics = new Set<string>()
  for (const { topic } of records) topics.add(topic)
  return topics
}

/** Somebody who was discarded while waiting must not send: its successor may have. */
function requireCurrent(session: DirectSession): void {
  if (session.ended) throw new Error('discarded while it connected')
}

/** Throws where one failed: of several failures, one that is not about a record. */
async function firstToFail(sent: readonly Promise<void>[]): Promise<void> {
  const errors = (await Promise.allSettled(sent)).flatMap((each) =>
    each.status === 'rejected' ? [each.reason as unknown] : [],
  )
  if (errors.length === 0) return
  throw errors.find((error) => !isRefusal(protocolErrorOf(error)?.code ?? 0)) ?? errors[0]
}
