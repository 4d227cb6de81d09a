import { randomUUID } from 'node:crypto'
import { testDatabases } from 'local-stack/test-databases'
import { openPool, sessionOptions } from 'migrations/database'
import pg from 'pg'
import {
  type Batch,
  type Cursor,
  type CursorLimits,
  cursorSession,
  defaultLimits,
  openCursor,
} from './cursor.ts'
import { type Names, namesOf } from './names.ts'
import { saveWithHeld } from './parking-table.ts'
import type { Progress } from './progress.ts'
import { readRelayRow, takeLease } from './relay-table.ts'
import type { OutboxRow } from './wire.ts'

// What the tests with a database share: an outbox of their own, writers as the command side is one,
// and a relay that only remembers what it read.

export type EventToInsert = {
  aggregateId: string
  version: number
  aggregateType?: string
  type?: string
  payload?: string
}

export type TestOutbox = Awaited<ReturnType<typeof testOutbox>>

/** A migrated database, with a pool as sluice_relay. */
export async function testOutbox() {
  await using cleanup = new AsyncDisposableStack()
  const databases = cleanup.use(await testDatabases())
  const relayUrl = databases.write('sluice_relay')
  const onError = () => {} // The statement that was running reports it.
  const pool = cleanup.use(
    openPool({ url: relayUrl, applicationName: 'test-relay', maxConnections: 4, onError }),
  )
  const kept = cleanup.move()
  return {
    pool,
    relayUrl,
    cdcUrl: databases.write('sluice_cdc'),
    maintenanceUrl: databases.write('sluice_maintenance'),
    superuserUrl: databases.write(),
    /** A session of the command side, whose transactions the test opens and ends. */
    writer: () => connect(databases.write('sluice_command')),
    superuser: () => connect(databases.write()),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

/** What a relay of this database would call its slots and connectors. */
export async function testNames({ pool }: Pick<TestOutbox, 'pool'>, epoch: string): Promise<Names> {
  return namesOf(pool, { epoch, row: await readRelayRow(pool) })
}

type RowSaid = { aggregateId: string; version: number; payload?: string | undefined }

/** A row as the relay reads it, without a database. */
export function rowAt(
  position: number,
  { aggregateId, version, payload = '{"amount":"1"}' }: RowSaid,
): OutboxRow {
  return [
    String(position),
    `0199f2a4-7c1e-7d3a-8b55-${String(position).padStart(12, '0')}`,
    'account',
    aggregateId,
    String(version),
    'FundsDeposited.v1',
    '2026-11-21T08:00:00.120001Z',
    'urn:sluice:command-api',
    '1.0',
    'corr-1',
    'cause-1',
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    payload,
  ]
}

/** As the relay does with an event that Kafka refuses, and the one behind it. */
export async function park({ pool }: TestOutbox): Promise<void> {
  const epoch = (await takeLease(pool, 'relay-1', await readRelayRow(pool))) ?? ''
  const rows = [1, 2].map((version) => rowAt(version, { aggregateId: 'a', version }))
  const refused = [{ row: rows[0]!, reason: 'MESSAGE_TOO_LARGE', recordBytes: 2_000_000 }]
  const changes = { from: 1n, next: 3n, gaps: { closed: [], opened: [] }, held: { rows, refused } }
  const saved = await saveWithHeld(pool, { epoch, leader: 'relay-1' }, changes)
  if (!saved) throw new Error('somebody else leads')
}

export type Session = Awaited<ReturnType<typeof connect>>

export async function connect(url: string, settings: Readonly<Record<string, string>> = {}) {
  const client = new pg.Client({ connectionString: url, options: sessionOptions(settings) })
  client.on('error', () => {}) // The statement that was running reports it.
  await client.connect()
  return {
    client,
    sql: async (text: string) => void (await client.query(text)),
    insert: (...events: EventToInsert[]) => insertEvents(client, events),
    [Symbol.asyncDispose]: () => client.end(),
  }
}

/** Inserts in one statement, in the order given; returns their positions. */
async function insertEvents(
  client: Pick<pg.ClientBase, 'query'>,
  events: readonly EventToInsert[],
): Promise<bigint[]> {
  const column = (value: (event: EventToInsert) => string | number) => events.map(value)
  const { rows } = await client.query<{ position: string }>(
    `insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload,
        source, specversion, traceparent, correlationid, causationid, occurred_at)
     select id, aggregatetype, aggregateid, version, type, payload::json,
            'urn:sluice:command-api', '1.0',
            '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'corr-1', 'cause-1', now()
       from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[])
            with ordinality as e (id, aggregatetype, aggregateid, version, type, payload, n)
      order by n
     returning position`,
    [
      column(() => randomUUID()),
      column((event) => event.aggregateType ?? 'account'),
      column((event) => event.aggregateId),
      column((event) => event.version),
      column((event) => event.type ?? 'FundsDeposited.v1'),
      column((event) => event.payload ?? '{"amount":"1"}'),
    ],
  )
  return rows.map((row) => BigInt(row.position))
}

/** A relay without Kafka: what it reads counts as published. */
export class ReadingRelay {
  progress: Progress
  readonly read: string[] = []
  #cursor: Cursor

  constructor(session: Session, limits: Partial<CursorLimits> = {}, from?: Progress) {
    this.progress = from ?? { next: 1n, gaps: [] }
    this.#cursor = openCursor(session.client, { ...defaultLimits, ...limits })
  }

  /** As after a lost connection: the same progress, another session. */
  reconnect(session: Session): void {
    this.#cursor = openCursor(session.client)
  }

  /** One statement. Returns what it brought, as `aggregate@version`. */
  async poll(): Promise<string[]> {
    return (await this.batch()).rows.map(nameOf)
  }

  /** One statement, as it was. */
  async batch(): Promise<Batch> {
    const batch = await this.#cursor.read(this.progress)
    this.progress = batch.after
    this.read.push(...batch.rows.map(nameOf))
    return batch
  }

  get gaps(): (readonly [bigint, bigint])[] {
    return this.progress.gaps.map((gap) => [gap.first, gap.last])
  }
}

function nameOf(row: OutboxRow): string {
  return `${row[3]}@${row[4]}`
}

/** The relay's reading session, by its real settings. */
export const readingSession = (url: string) => connect(url, cursorSession)
