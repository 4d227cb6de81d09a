import type { Pool } from 'pg'
import { parsePart, type ApiAnswer, type ApiRequest, type Route } from 'service/route'
import { z } from 'zod'
import {
  advance,
  decodeCursor,
  encodeCursor,
  firstCursor,
  withHolders,
  type FeedCursor,
} from './feed-cursor.ts'
import { problem } from './problems.ts'

// The only door from the query side to the write side: events as they are stored, for backfill,
// repair and checking.

const whole = (from: number, to: number) =>
  z
    .string()
    .regex(/^\d{1,15}$/, 'must be a whole number')
    .transform(Number)
    .refine((value) => value >= from && value <= to, `must be from ${from} to ${to}`)

const limit = whole(1, 1_000).default(500)
const accountId = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/)
const version = whole(1, Number.MAX_SAFE_INTEGER)

const eventsQuery = z.strictObject({ after: z.string().optional(), limit })
const accountQuery = z.strictObject({ from: version.default(1), to: version.optional(), limit })
const checksumsQuery = z.strictObject({ after: accountId.optional(), limit })

type EventRow = Record<'position' | 'account_id' | 'version' | 'id' | 'type' | 'at', string> &
  Record<'payload' | 'traceparent' | 'correlationid' | 'causationid', string>

const columns = `outbox_position as position, account_id, version, id, type,
  to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at,
  payload::text as payload, traceparent, correlationid, causationid`

export function feedRoutes(pool: Pool): Route[] {
  const route = (path: string, answer: (pool: Pool, request: ApiRequest) => Promise<ApiAnswer>) =>
    ({ method: 'GET', path, handle: (request) => answer(pool, request) }) satisfies Route
  return [
    route('/feed/events', allEvents),
    route('/feed/accounts/:id/events', accountEvents),
    route('/feed/checksums', checksums),
  ]
}

/** A page of all events in position order, late commits included; `next` is never null. */
async function allEvents(pool: Pool, request: ApiRequest): Promise<ApiAnswer> {
  const query = parsePart(eventsQuery, request.query, 'query')
  const given = query.after === undefined ? firstCursor : decodeCursor(query.after)
  if (given === undefined) throw problem('invalid_cursor')
  const before = withHolders(given, await queueHolders(pool))
  const rows = await look(pool, before, query.limit)
  const { holders } = await queueHolders(pool)
  const { cursor, taken } = advance(before, {
    positions: rows.map((row) => Number(row.position)),
    limited: rows.length === query.limit,
    holdersAfter: [...holders],
  })
  return page(rows.slice(0, taken), encodeCursor(cursor))
}

/** One statement, one snapshot: rows inside the gaps and rows from `next` on, in position order. */
async function look(pool: Pool, cursor: FeedCursor, rowLimit: number): Promise<EventRow[]> {
  const gaps = cursor.groups.flatMap((group) => group.gaps)
  const { rows } = await pool.query<EventRow>({
    name: 'feed-look',
    text: `select ${columns} from (
        select e.* from unnest($1::bigint[], $2::bigint[]) as gap(first, last)
        cross join lateral (
          select * from ledger.account_events
          where outbox_position between gap.first and gap.last
          order by outbox_position limit $4) e
        union all
        (select * from ledger.account_events where outbox_position >= $3
         order by outbox_position limit $4)
      ) found order by outbox_position limit $4`,
    values: [gaps.map((gap) => gap[0]), gaps.map((gap) => gap[1]), cursor.next, rowLimit],
  })
  return rows
}

/**
 * The transactions that may still commit a row: each takes this lock on the queue before it draws a
 * position and keeps it past the moment its commit becomes visible.
 */
async function queueHolders(pool: Pool) {
  const { rows } = await pool.query<{ server_start: string; holders: string[] }>({
    name: 'feed-holders',
    text: `select pg_postmaster_start_time()::text as server_start,
      array(select distinct virtualtransaction from pg_locks
        where relation = 'outbox.events'::regclass and mode = 'RowExclusiveLock' and granted
          and database = (select oid from pg_database where datname = current_database())) as holders`,
  })
  const row = rows[0]
  return { holders: new Set(row?.holders), serverStart: row?.server_start ?? '' }
}

/** The events of one account in version order; `next` is the version to go on from, or null. */
async function accountEvents(pool: Pool, request: ApiRequest): Promise<ApiAnswer> {
  const { id } = parsePart(z.strictObject({ id: accountId }), request.params, 'path')
  const query = parsePart(accountQuery, request.query, 'query')
  const { rows } = await pool.query<EventRow>({
    name: 'feed-account',
    text: `select ${columns} from ledger.account_events
      where account_id = $1 and version >= $2 and ($3::bigint is null or version <= $3)
      order by version limit $4`,
    values: [id, query.from, query.to ?? null, query.limit + 1],
  })
  const more = rows.length > query.limit ? Number(rows.at(-1)?.version) : null
  return page(rows.slice(0, query.limit), more)
}

/** Payloads are sent as stored: parsing and printing again could change a number or an order. */
function page(rows: readonly EventRow[], next: string | number | null): ApiAnswer {
  const items = rows.map((row) => {
    const { position, account_id, version: at_version, payload, correlationid, causationid } = row
    const { id, type, at, traceparent } = row
    const envelope = {
      position,
      accountId: account_id,
      version: Number(at_version),
      id,
      type,
      at,
      traceparent,
      correlationId: correlationid,
      causationId: causationid,
    }
    return `${JSON.stringify(envelope).slice(0, -1)},"payload":${payload}}`
  })
  return { status: 200, text: `{"items":[${items.join()}],"next":${JSON.stringify(next)}}` }
}

/**
 * What each account should be, by account id: version, last event's id, ledger balance, and the MD5
 * of all its event ids in version order.
 */
async function checksums(pool: Pool, request: ApiRequest): Promise<ApiAnswer> {
  const query = parsePart(checksumsQuery, request.query, 'query')
  const { rows } = await pool.query<Record<string, string>>({
    name: 'feed-checksums',
    text: `select a.id as "accountId", a.version::int, a.ledger_balance::text as "ledgerBalance",
        e.last_id as "lastEventId", e.hash
      from (select * from ledger.accounts where id > $1 order by id limit $2) a
      cross join lateral (
        select md5(string_agg(id::text, '' order by version)) as hash,
          (array_agg(id order by version desc))[1] as last_id
        from ledger.account_events where account_id = a.id) e
      order by a.id`,
    values: [query.after ?? '', query.limit],
  })
  const next = rows.length === query.limit ? (rows.at(-1)?.['accountId'] ?? null) : null
  return { status: 200, body: { items: rows, next } }
}
