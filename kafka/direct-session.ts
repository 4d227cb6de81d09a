import { initProducerIdV4, metadataV12 } from '@platformatic/kafka'
import { pause } from 'service/backoff'
import {
  BrokerConnections,
  type Call,
  type ConnectionSettings,
  formatAddress,
} from './broker-connections.ts'
import { KafkaError, protocolErrorOf, ProtocolFailure } from './errors.ts'
import { RecordBatch } from './record-batch.ts'

// From one failure to the next: connections, who leads what, and a producer id with its sequences. The
// batches that are being written belong to it too, so that a send that was given up while it waited
// shares nothing with the one after it.

/** Coordinator load in progress, coordinator not available. */
const coordinatorLoads: ReadonlySet<number> = new Set([14, 15])
const loadingTries = 30
const loadingPauseMs = 100
/** What needs no other broker is answered at once. On a silent line more is waited in vain. */
const askLimitMs = 5_000

/** By partition: its leader's address, the sequence number that comes next, what is written for it. */
export type TopicPartitions = { leaders: string[]; sequences: number[]; batches: RecordBatch[] }

export type SessionSettings = ConnectionSettings & {
  brokers: readonly string[]
  /** Age at which metadata is asked for again, so that new partitions are noticed. */
  metadataMaxAgeMs: number
  now: () => number
}

export class DirectSession {
  readonly connections: BrokerConnections
  readonly #settings: SessionSettings
  readonly #topics = new Map<string, TopicPartitions>()
  #bootstrap = ''
  #loadedAt = 0
  #producer: { id: bigint; epoch: number } | undefined
  #ended = false

  constructor(settings: SessionSettings) {
    this.#settings = settings
    this.connections = new BrokerConnections(settings)
  }

  get ended(): boolean {
    return this.#ended
  }

  /** Known for each topic that `prepare` was given. */
  partitionsOf(topic: string): TopicPartitions {
    const found = this.#topics.get(topic)
    if (found === undefined) throw new KafkaError('topic_missing', `${topic} was not prepared`)
    return found
  }

  /** Known after `prepare`. */
  get producer(): { id: bigint; epoch: number } {
    if (this.#producer === undefined) throw new Error('no producer id before prepare')
    return this.#producer
  }

  /** Makes sure of a producer id and of the leaders of these topics. Throws what Kafka answers. */
  async prepare(topics: ReadonlySet<string>): Promise<void> {
    const { now, metadataMaxAgeMs } = this.#settings
    const old = this.#topics.size > 0 && now() - this.#loadedAt > metadataMaxAgeMs
    const missing = [...topics].some((topic) => !this.#topics.has(topic))
    if (old || missing) await this.#loadMetadata(new Set([...topics, ...this.#topics.keys()]))
    if (this.#producer === undefined) await this.#beginProducer()
  }

  end(): void {
    this.#ended = true
    this.connections.destroy()
  }

  async #loadMetadata(topics: ReadonlySet<string>): Promise<void> {
    const { brokers, topics: described } = await this.#ask('Metadata', (connection) =>
      metadataV12.api.async(connection, [...topics], false, false),
    )
    const addresses = new Map(brokers.map((broker) => [broker.nodeId, formatAddress(broker)]))
    for (const { name, partitions } of described) {
      if (name === null || name === undefined) continue
      const before = this.#topics.get(name)
      const found: TopicPartitions = { leaders: [], sequences: [], batches: [] }
      for (const { partitionIndex, leaderId } of partitions) {
        const leader = addresses.get(leaderId)
        if (leader === undefined) {
          const message = `partition ${partitionIndex} of ${name} has no leader`
          throw new KafkaError('topic_leaders_missing', message)
        }
        found.leaders[partitionIndex] = leader
        found.sequences[partitionIndex] = before?.sequences[partitionIndex] ?? 0
        found.batches[partitionIndex] = before?.batches[partitionIndex] ?? new RecordBatch()
      }
      this.#topics.set(name, found)
    }
    this.#loadedAt = this.#settings.now()
  }

  async #beginProducer(): Promise<void> {
    // No transactional id: any broker may hand out the producer id. The timeout is of transactions.
    const ask = () =>
      this.#ask('InitProducerId', (connection) =>
        initProducerIdV4.api.async(connection, null, 60_000, -1n, -1),
      )
    for (let loading = 0; ; loading += 1) {
      try {
        const { producerId, producerEpoch } = await ask()
        this.#producer = { id: producerId, epoch: producerEpoch }
        return
      } catch (error) {
        // Just after its start a broker still loads: nothing has failed yet.
        const code = protocolErrorOf(error)?.code ?? 0
        if (!coordinatorLoads.has(code) || loading === loadingTries || this.#ended) throw error
        await pause(loadingPauseMs)
      }
    }
  }

  /** Asks the broker that answered last, then each of the given ones in turn. */
  async #ask<T>(what: string, call: Call<T>): Promise<T> {
    const given = this.#settings.brokers
    const start = Math.floor(Math.random() * given.length)
    const turns = [this.#bootstrap, ...given.slice(start), ...given.slice(0, start)]
    let last: unknown
    for (const address of new Set(turns)) {
      if (address === '' || this.#ended) continue
      try {
        const answer = await this.connections.request(address, call, askLimitMs)
        this.#bootstrap = address
        return answer
      } catch (error) {
        // An answer is an answer, even one that says no.
        const refused = protocolErrorOf(error)
        if (refused !== undefined) throw new ProtocolFailure(refused, `${what}: ${refused.type}`)
        last = error
      }
    }
    throw new KafkaError('kafka_unreachable', `no broker answers: ${given.join(', ')}`, {
      cause: last,
    })
  }
}
