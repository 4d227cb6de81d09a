import { randomUUID } from 'node:crypto'
import { createTopic } from 'kafka/test-topics'
import { dumpBytes, dumpTopic } from 'kafka/topic-dump'
import { testBrokers } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { pause } from 'service/backoff'
import type { TestedMode } from './test-modes.ts'
import { connect, type EventToInsert, testOutbox } from './test-outbox.ts'
import { testConnector } from './debezium/test-connector.ts'
import { type RelayProcess, startRelay } from './test-relay.ts'
import { type CommittedEvent, findingsIn } from './test-topic.ts'
import { topicOf } from './wire.ts'

// One test's own outbox and topic, and relays in one mode between them.

/** A write database that a relay can be pointed at. */
export type OutboxPlace = { relayUrl: string; cdcUrl: string; superuserUrl: string }

export type StagePlaces = { outbox?: OutboxPlace; brokers?: readonly string[] }

export type Stage = Awaited<ReturnType<typeof openStage>>

const partitions = 3

/** The topic is made by the test, or is missing. */
export async function openStage(mode: TestedMode, places: StagePlaces = {}) {
  await using cleanup = new AsyncDisposableStack()
  const outbox = places.outbox ?? cleanup.use(await testOutbox())
  const brokers = places.brokers ?? testBrokers()
  const aggregateType = `stage-${randomUUID()}`
  const topic = topicOf(aggregateType)
  const ofMode = await mode.environment(outbox)
  // A relay that a test kills leaves its connector behind, which keeps the database in use.
  if (mode.name === 'debezium') cleanup.use(await testConnector(outbox))
  const dump = () => dumpTopic(brokers, topic)
  const moved = cleanup.move()
  return {
    outbox,
    aggregateType,
    topic,
    makeTopic: () => createTopic(brokers, topic, partitions),
    relay: (environment: Record<string, string> = {}) =>
      startRelay({
        WRITE_DATABASE_URL: outbox.relayUrl,
        KAFKA_BROKERS: brokers.join(','),
        RELAY_LEASE_MS: '1500',
        ...ofMode,
        ...environment,
      }),
    /** A session that may do everything; what it inserts is of this stage. */
    session: () => connect(outbox.superuserUrl),
    /** Versions `from` to `to` of each account, in the order in which one writer would write them. */
    history: (accounts: number, from: number, to: number): EventToInsert[] =>
      Array.from({ length: to - from + 1 }, (_, n) => from + n).flatMap((version) =>
        Array.from({ length: accounts }, (_unused, account) => ({
          aggregateType,
          aggregateId: `a-${account}`,
          version,
        })),
      ),
    async insert(events: readonly EventToInsert[], rowsPerStatement = 20): Promise<void> {
      await using writer = await connect(outbox.superuserUrl)
      for (let at = 0; at < events.length; at += rowsPerStatement) {
        await writer.insert(...events.slice(at, at + rowsPerStatement))
      }
    },
    /** Writes the next version of each account, again and again, until it is disposed of. */
    keepWriting: (accounts: number) => keepWriting(outbox, aggregateType, accounts),
    dump,
    dumpBytes: () => dumpBytes(brokers, topic),
    /** What the topic holds, held against every row that the table has of this stage. */
    async findings() {
      return findingsIn(await dump(), await committedEvents(outbox, aggregateType), partitions)
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  }
}

async function keepWriting({ superuserUrl }: OutboxPlace, aggregateType: string, accounts: number) {
  const ended = new AbortController()
  const writer = await connect(superuserUrl)
  const writing = (async () => {
    for (let version = 1; !ended.signal.aborted; version += 1) {
      await writer.insert(
        ...Array.from({ length: accounts }, (_, account) => ({
          aggregateType,
          aggregateId: `w-${account}`,
          version,
        })),
      )
      await pause(20, ended.signal)
    }
  })()
  // Heard of at `stop`.
  writing.catch(() => {})
  const stop = async () => {
    ended.abort()
    await writing
  }
  return {
    stop,
    async [Symbol.asyncDispose]() {
      await stop().catch(async (error: unknown) => {
        await writer[Symbol.asyncDispose]()
        throw error
      })
      await writer[Symbol.asyncDispose]()
    },
  }
}

async function committedEvents(
  { superuserUrl }: OutboxPlace,
  aggregateType: string,
): Promise<CommittedEvent[]> {
  await using session = await connect(superuserUrl)
  const { rows } = await session.client.query<{ id: string; aggregateid: string; version: string }>(
    `select id, aggregateid, aggregateversion as version from outbox.events
      where aggregatetype = $1`,
    [aggregateType],
  )
  return rows.map(({ id, aggregateid, version }) => ({
    id,
    aggregateId: aggregateid,
    version: Number(version),
  }))
}

/** The relay leads, and it is the mode's own sender that sends. */
export const sendsBy = (relay: RelayProcess, { name }: TestedMode) =>
  waitUntil(
    async () => {
      const { source, mode } = await relay.status()
      return relay.logged('leading') !== undefined && mode === name && source === name
    },
    { what: `${name} to send`, deadlineMs: 30_000 },
  )

/** Everything that is committed now is published, and saved as published. */
export async function drained(relay: RelayProcess, stage: Stage): Promise<void> {
  await using session = await stage.session()
  const { rows } = await session.client.query<{ next: string }>(
    'select coalesce(max(position), 0) + 1 as next from outbox.events',
  )
  const wanted = BigInt(rows[0]?.next ?? 1)
  await waitUntil(
    async () => {
      const { backlog, gaps, next } = await relay.status()
      return backlog === 0 && gaps === 0 && BigInt(next) >= wanted
    },
    { what: 'everything to be published', deadlineMs: 30_000 },
  )
}

/** By what it is sent, in which epoch, and what has failed so far. */
export async function sending(relay: RelayProcess, stage: Stage) {
  const { source, epoch, lastError } = await relay.status()
  await using session = await stage.session()
  const { rows } = await session.client.query<{ reason: string }>(
    "select reason from outbox.audit where action = 'stream_ended'",
  )
  return { source, epoch, lastError, streamsEnded: rows.map(({ reason }) => reason) }
}

/** `sending` of the first leader, when the mode's own sender has sent all that came after `sendsBy`. */
export const undisturbed = ({ name }: TestedMode) => ({
  source: name,
  epoch: '1',
  lastError: null,
  streamsEnded: [],
})

export const leads = (relay: RelayProcess) =>
  waitUntil(() => relay.logged('leading') !== undefined, { what: 'it to lead', deadlineMs: 20_000 })

/** Something more is saved as published. */
export async function advances(relay: RelayProcess): Promise<void> {
  const { next } = await relay.status()
  await waitUntil(async () => (await relay.status()).next !== next, {
    what: 'progress',
    deadlineMs: 30_000,
    intervalMs: 5,
  })
}
