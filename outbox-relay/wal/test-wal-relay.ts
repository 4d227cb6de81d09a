import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { ensureTopics } from 'kafka/admin'
import { dumpTopic } from 'kafka/topic-dump'
import { waitUntil } from 'local-stack/wait-until'
import { connect, type Session } from '../test-outbox.ts'
import { type RelayProcess, startRelay } from '../test-relay.ts'
import { topicOf } from '../wire.ts'

// What the tests of whole relays in wal mode share.

export type WalTest = Awaited<ReturnType<typeof openWalTest>>

export type WalTestOptions = {
  brokers: string[]
  relayUrl: string
  cdcUrl: string
  superuserUrl: string
}

const deadlineMs = 120_000

export async function openWalTest({ brokers, relayUrl, cdcUrl, superuserUrl }: WalTestOptions) {
  const aggregateType = `wal-${randomUUID()}`
  const topic = topicOf(aggregateType)
  const report = () => {}
  await ensureTopics({ brokers, topics: [{ name: topic, partitions: 3, settings: {} }], report })
  return {
    aggregateType,
    superuser: () => connect(superuserUrl),
    relay: (environment: Record<string, string> = {}) =>
      startRelay({
        WRITE_DATABASE_URL: relayUrl,
        CDC_DATABASE_URL: cdcUrl,
        KAFKA_BROKERS: brokers.join(','),
        RELAY_LEASE_MS: '1500',
        RELAY_MODE: 'wal',
        ...environment,
      }),
    dump: () => dumpTopic(brokers, topic),
    /** Each account's versions by first occurrence, as the topic has them. */
    async versions(): Promise<Map<string, number[]>> {
      const found = new Map<string, number[]>()
      for (const { key, headers } of await dumpTopic(brokers, topic)) {
        const version = Number(headers[2]?.[1])
        const seen = found.get(key) ?? []
        if (!seen.includes(version)) seen.push(version)
        found.set(key, seen)
      }
      return found
    },
  }
}

export type History = {
  aggregateType: string
  accounts: number
  /** Versions of each account. */
  from: number
  to: number
  payloadBytes?: number
}

/** One statement, so one transaction: versions `from` to `to` of every account, version by version. */
export async function writeHistory({ client }: Session, history: History): Promise<void> {
  const { aggregateType, accounts, from, to, payloadBytes = 20 } = history
  await client.query(
    `insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload,
        source, specversion, traceparent, correlationid, causationid, occurred_at)
     select gen_random_uuid(), $1, 'a-' || account, version, 'FundsDeposited.v1',
            to_json(repeat('x', $5)), 'urn:x', '1.0', 'trace', 'corr', 'cause', now()
       from generate_series($3::int, $4::int) as version, generate_series(1, $2::int) as account
      order by version, account`,
    [aggregateType, accounts, from, to, payloadBytes],
  )
}

/** About 200 MB of log that nobody of ours asked for, or as many as are given. */
export async function writeElsewhere(session: Session, megabytes = 200): Promise<void> {
  await session.sql('create table noise (text text)')
  await session.sql(
    `insert into noise select repeat('n', 1000) from generate_series(1, ${megabytes * 950})`,
  )
  await session.sql('drop table noise')
}

/** What `versions` must be when nothing is lost and nothing out of order. */
export function complete(accounts: number, to: number): Map<string, number[]> {
  const all = Array.from({ length: to }, (_, n) => n + 1)
  return new Map(Array.from({ length: accounts }, (_, n) => [`a-${n + 1}`, all]))
}

/** Resolves once it streams, in an epoch after the one given. */
export const streaming = (relay: RelayProcess, after = '0') =>
  waitUntil(
    async () => {
      const { source, epoch } = await relay.status()
      return source === 'wal' && Number(epoch) > Number(after)
    },
    { what: 'the stream to take over', deadlineMs },
  )

/** Resolves once everything that is committed by now is published and saved. */
export const drained = (relay: RelayProcess, session: Session) =>
  waitUntil(
    async () => {
      const { rows } = await session.client.query<{ last: string }>(
        'select coalesce(max(position), 0) as last from outbox.events',
      )
      const { backlog, gaps, next } = await relay.status()
      return backlog === 0 && gaps === 0 && BigInt(next) > BigInt(rows[0]?.last ?? 0)
    },
    { what: 'everything to be published', deadlineMs },
  )

export async function slotNames({ client }: Session): Promise<string[]> {
  const { rows } = await client.query<{ slot_name: string }>(
    `select slot_name from pg_replication_slots
      where database = current_database() order by slot_name`,
  )
  return rows.map((row) => row.slot_name)
}

export async function auditOf({ client }: Session): Promise<string[]> {
  const { rows } = await client.query<{ line: string }>(
    `select epoch || ' ' || action as line from outbox.audit
      where action like 'stream%' order by id`,
  )
  return rows.map((row) => row.line)
}

export async function metric(relay: RelayProcess, name: string): Promise<number> {
  const text = await (await fetch(`${relay.url}/metrics`)).text()
  return Number(new RegExp(`^${name}(?:{[^}]*})? (\\S+)$`, 'm').exec(text)?.[1])
}

/** The leader's resident memory, in bytes. */
export async function residentBytes(relay: RelayProcess): Promise<number> {
  const pid = (await relay.status()).leader?.split(':')[1]
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1_024
}
