import { randomUUID } from 'node:crypto'
import { isConnectionLost } from 'migrations/database'
import type pg from 'pg'
import { pause } from 'service/backoff'

// Writers as the command side is one (every account locked, in one order, before the first insert;
// rows ordered by account and version), with everything that a real one does now and then: pauses
// anywhere, rollbacks, savepoints kept and given up. What they do follows from a seed; how they
// interleave is the machine's.

/** A generator of numbers in [0, 1), the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Rows of ledger.accounts, which are what writers lock; versions begin at 0 events. */
export async function openAccounts(client: pg.Client, ids: readonly string[]): Promise<void> {
  await client.query(
    `insert into ledger.accounts (id, owner, currency, exponent, type, status, ledger_balance, held,
        overdraft_limit, metadata, version, opened_at, as_of)
     select id, 'stress', 'EUR', 2, 'current', 'open', 0, 0, 0, '{}', 1, now(), now()
       from unnest($1::text[]) as id`,
    [ids],
  )
}

export type WriterOptions = {
  /** A new session of the command side. May reject while the server is away. */
  connect: () => Promise<pg.Client>
  accounts: readonly string[]
  random: () => number
  /** Told of each commit that was answered, with how many events it had. */
  onCommitted: (events: number) => void
  /** Ends it between two transactions. */
  signal: AbortSignal
}

/** Writes transactions until told to stop; a connection that is lost is opened again. */
export async function runWriter(options: WriterOptions): Promise<void> {
  while (!options.signal.aborted) {
    try {
      const client = await options.connect()
      try {
        while (!options.signal.aborted) await writeTransaction(client, options)
      } finally {
        // Not waited for: a connection whose server was killed answers no farewell.
        void client.end().catch(() => {})
      }
    } catch (error) {
      if (!isConnectionLost(error)) throw error
      await pause(50, options.signal)
    }
  }
}

/** One transaction: one or two accounts, one to four events each, and perhaps no commit. */
async function writeTransaction(
  client: pg.Client,
  { accounts, random, onCommitted }: WriterOptions,
): Promise<void> {
  const chance = (probability: number) => random() < probability
  const maybePause = (probability: number) =>
    chance(probability) ? pause(random() ** 3 * 40) : undefined
  // Squared, so that a few accounts are in the way of each other most of the time.
  const pick = () => accounts[Math.floor(random() ** 2 * accounts.length)]!
  const ids = [...new Set(chance(0.6) ? [pick(), pick()] : [pick()])].toSorted()
  await client.query('begin')
  let versions = await lockAccounts(client, ids)
  await maybePause(0.2)
  let events = await insertEvents(client, versions, 1 + Math.floor(random() * 4))
  await maybePause(0.3)
  if (chance(0.2)) {
    await client.query('savepoint s')
    const before = new Map(versions)
    const more = await insertEvents(client, versions, 1 + Math.floor(random() * 2))
    await maybePause(0.3)
    const kept = chance(0.5)
    await client.query(kept ? 'release savepoint s' : 'rollback to savepoint s')
    if (kept) events += more
    else versions = before
  }
  const commits = !chance(0.1)
  if (commits) await saveVersions(client, versions)
  await maybePause(0.2)
  await client.query(commits ? 'commit' : 'rollback')
  if (commits) onCommitted(events)
}

type Versions = Map<string, number>

export async function lockAccounts(client: pg.Client, ids: readonly string[]): Promise<Versions> {
  const { rows } = await client.query<{ id: string; version: string }>(
    'select id, version from ledger.accounts where id = any($1) order by id for update',
    [ids],
  )
  return new Map(rows.map(({ id, version }) => [id, Number(version)]))
}

/**
 * One statement with `each` events of every account, and moves the versions on. The number of the
 * whole transaction goes with each row, for the cursor that reads in that order: the row's own xmin
 * would be that of a savepoint.
 */
export async function insertEvents(
  client: pg.Client,
  versions: Versions,
  each: number,
): Promise<number> {
  const rows = [...versions].flatMap(([id, version]) =>
    Array.from({ length: each }, (_, n) => ({ event: randomUUID(), id, version: version + n + 1 })),
  )
  await client.query(
    `insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload,
        source, specversion, traceparent, correlationid, causationid, occurred_at)
     select event, 'account', id, version, 'FundsDeposited.v1', '{"amount":"1"}',
            'urn:sluice:command-api', '1.0', 'trace', pg_current_xact_id()::text, 'cause', now()
       from json_to_recordset($1) as e (event uuid, id text, version bigint)
      order by id, version`,
    [JSON.stringify(rows)],
  )
  for (const [id, version] of versions) versions.set(id, version + each)
  return rows.length
}

export async function saveVersions(client: pg.Client, versions: Versions): Promise<void> {
  await client.query(
    `update ledger.accounts a set version = v.version
       from unnest($1::text[], $2::bigint[]) as v (id, version) where a.id = v.id`,
    [[...versions.keys()], [...versions.values()]],
  )
}
