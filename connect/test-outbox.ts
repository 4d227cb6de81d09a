import { randomUUID } from 'node:crypto'
import { partitionOf } from 'kafka/partition'
import { createTopic, deleteTopic } from 'kafka/test-topics'
import { dumpTopic } from 'kafka/topic-dump'
import { testConnect } from 'local-stack/test-connect'
import { testBrokers, testDatabases } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { encode, type OutboxRow, topicOf } from 'outbox-relay/wire'
import pg from 'pg'
import { type Connect, connectorConfiguration, listConnectors, remove } from './connector.ts'

// An outbox of a test's own: a database, a topic, a slot and a connector's name that no other has.

const partitions = 6

export type TestOutbox = Awaited<ReturnType<typeof testOutbox>>

type RowToInsert = {
  aggregateId: string
  version: number
  payload?: string
  occurredAt?: string
  correlationId?: string
}

export async function testOutbox() {
  await using cleanup = new AsyncDisposableStack()
  const brokers = testBrokers()
  const connect: Connect = { url: await testConnect() }
  const id = randomUUID().slice(0, 8)
  const aggregateType = `connect-${id}`
  const topic = topicOf(aggregateType)
  const connectorName = `test-${id}`
  const slotName = `test_${id}`
  const databases = cleanup.use(await testDatabases())
  const superuser = cleanup.use(await session(databases.write()))
  const cdc = cleanup.use(await session(databases.write('sluice_cdc')))
  await createTopic(brokers, topic, partitions)
  cleanup.defer(() => deleteTopic(brokers, topic))
  const keptSlotName = `${slotName}_kept`
  cleanup.defer(() => dropSlot(cdc, keptSlotName))
  cleanup.defer(() => dropSlot(cdc, slotName))
  cleanup.defer(async () => {
    for (const name of await listConnectors(connect, connectorName)) await remove(connect, name)
  })
  const settings = { databaseUrl: databases.write('sluice_cdc'), slotName, connectorName }
  const kept = cleanup.move()
  return {
    brokers,
    connect,
    topic,
    connectorName,
    settings,
    superuser,
    configuration: connectorConfiguration(settings),
    /** Makes the slot by SQL; gives the position that it begins after. */
    createSlot: () => createSlot(cdc, slotName),
    dropSlot: () => dropSlot(cdc, slotName),
    /** A copy of it at the same place, and the slot again of that copy. */
    keepSlot: () => copySlot(cdc, slotName, keptSlotName),
    restoreSlot: () => copySlot(cdc, keptSlotName, slotName),
    slotIsActive: () => slotIs(cdc, slotName, 'active'),
    slotPassed: (lsn: string) => slotIs(cdc, slotName, 'confirmed_flush_lsn >= $2::pg_lsn', lsn),
    insert: (...rows: RowToInsert[]) => insertRows(superuser, aggregateType, rows),
    /** Topic's records as our own encoder would have made them, per partition in order. */
    published: () => publishedRecords(brokers, topic),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

async function session(url: string) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() })
}

async function createSlot(client: pg.Client, name: string): Promise<string> {
  const { rows } = await client.query<{ lsn: string }>(
    "select lsn::text from pg_create_logical_replication_slot($1, 'pgoutput')",
    [name],
  )
  return rows[0]?.lsn ?? ''
}

async function copySlot(client: pg.Client, from: string, to: string): Promise<void> {
  await client.query('select pg_copy_logical_replication_slot($1, $2)', [from, to])
}

/** A worker that has let go of a slot may be known to the server as its user for a moment more. */
async function dropSlot(client: pg.Client, name: string): Promise<void> {
  await waitUntil(
    async () => {
      await client.query(
        'select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1',
        [name],
      )
      return true
    },
    { what: `the end of slot ${name}` },
  )
}

async function slotIs(client: pg.Client, name: string, condition: string, ...values: string[]) {
  const { rowCount } = await client.query(
    `select from pg_replication_slots where slot_name = $1 and ${condition}`,
    [name, ...values],
  )
  return rowCount === 1
}

/** In one statement and transaction, in the order given; gives the rows as the relay reads them. */
async function insertRows(
  client: pg.Client,
  aggregateType: string,
  rows: readonly RowToInsert[],
): Promise<OutboxRow[]> {
  const column = (value: (row: RowToInsert) => string | number) => rows.map(value)
  const { rows: inserted } = await client.query<string[]>({
    rowMode: 'array',
    text: `insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type,
        payload, source, specversion, traceparent, correlationid, causationid, occurred_at)
     select gen_random_uuid(), $1, aggregateid, version, 'FundsDeposited.v1', payload::json,
            'urn:sluice:command-api', '1.0',
            '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', correlationid,
            'cause-' || n, occurred_at
       from unnest($2::text[], $3::bigint[], $4::text[], $5::timestamptz[], $6::text[])
            with ordinality as e (aggregateid, version, payload, occurred_at, correlationid, n)
      order by n
     returning position::text, id::text, aggregatetype, aggregateid, aggregateversion::text, type,
       to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       source, specversion, correlationid, causationid, traceparent, payload::text`,
    values: [
      aggregateType,
      column((row) => row.aggregateId),
      column((row) => row.version),
      column((row) => row.payload ?? '{"amount":"1"}'),
      column((row) => row.occurredAt ?? '2026-11-21T08:00:00.120000Z'),
      column((row) => row.correlationId ?? 'corr-1'),
    ],
  })
  return inserted as unknown as OutboxRow[]
}

type PublishedRecord = {
  partition: number
  key: string
  value: string
  headers: (readonly [name: string, value: string])[]
}

async function publishedRecords(brokers: string[], topic: string): Promise<PublishedRecord[]> {
  const records = await dumpTopic(brokers, topic)
  return records.map(({ partition, key, value, headers }) => ({ partition, key, value, headers }))
}

/** The same of rows, by the wire contract. */
export function expectedRecords(rows: readonly OutboxRow[]): PublishedRecord[] {
  return rows
    .map((row) => {
      const { key, value, headers } = encode(row)
      return {
        partition: partitionOf(key, partitions),
        key,
        value: String(value),
        headers: [...headers],
      }
    })
    .toSorted((a, b) => a.partition - b.partition)
}
