import { type Aggregate, aggregateOf, type Held, type Refused } from './parking.ts'
import {
  type ProgressChanges,
  saveParts,
  saveProgress,
  saveValues,
  type Tenure,
} from './relay-table.ts'
import { type Queryable, queryText } from './text-query.ts'
import type { OutboxRow } from './wire.ts'

// Every statement on outbox.parked and outbox.parked_aggregates that the leader runs, each a transaction
// of its own. Reads are bounded: by a limit, or by what one aggregate's counter says.

const timeoutMs = 5_000

/** Which aggregates are parked; read after the lease was taken, when no other can park. */
export async function loadParked(db: Queryable): Promise<Aggregate[]> {
  const rows = await queryText(db, {
    name: 'parked-load',
    text: 'select aggregatetype, aggregateid from outbox.parked_aggregates',
    values: [],
    timeoutMs,
  })
  return rows.map(aggregateFrom)
}

const aggregateFrom = ([type, id]: (string | null)[]): Aggregate => ({
  aggregateType: type ?? '',
  aggregateId: id ?? '',
})

// Copies that are there already are of rows that were read again: after a restore, or by polling after
// a connector.
const saveHeldText = `with ${saveParts}, copies as (
    insert into outbox.parked (position, id, aggregatetype, aggregateid, aggregateversion, type,
        occurred_at, source, specversion, correlationid, causationid, traceparent, payload)
    select position::bigint, id::uuid, aggregatetype, aggregateid, version::bigint, type,
           time::timestamptz, source, specversion, correlationid, causationid, traceparent,
           payload::json
      from mine, unnest($7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
        $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[])
        as copy (position, id, aggregatetype, aggregateid, version, type, time, source, specversion,
          correlationid, causationid, traceparent, payload)
    on conflict do nothing
    returning aggregatetype, aggregateid
  ), counts as (
    select aggregatetype, aggregateid, count(*) as events from copies group by 1, 2
  ), more as (
    update outbox.parked_aggregates as parked set events = parked.events + counts.events
      from counts
     where parked.aggregatetype = counts.aggregatetype and parked.aggregateid = counts.aggregateid
  ), parks as (
    insert into outbox.parked_aggregates
      (aggregatetype, aggregateid, position, version, event_id, event_type, refusal, record_bytes,
       events)
    select aggregatetype, aggregateid, position::bigint, version::bigint, id::uuid, type, reason,
           bytes::bigint, coalesce(counts.events, 0)
      from mine, unnest($20::text[], $21::text[], $22::text[], $23::text[], $24::text[], $25::text[],
        $26::text[], $27::text[])
        as refused (aggregatetype, aggregateid, position, version, id, type, reason, bytes)
      left join counts using (aggregatetype, aggregateid)
    returning *
  ), told as (
    insert into outbox.audit (epoch, actor, action, before, after, reason)
    select mine.epoch, $28, 'aggregate_parked', null, to_json(parks)::text,
           'Kafka refused an event: ' || parks.refusal
      from mine, parks
  )
  select from mine`

export type Changes = ProgressChanges & { held: Held }

/** Writes progress and, with it, what is held behind a refusal; false when nothing was written. */
export async function saveWithHeld(
  db: Queryable,
  { epoch, leader }: Tenure,
  { held, ...changes }: Changes,
): Promise<boolean> {
  if (held.rows.length === 0) return saveProgress(db, epoch, changes)
  const { rows, refused } = held
  const column = (at: number) => rows.map((row) => row[at] ?? '')
  const of = (value: (each: Refused) => string) => refused.map(value)
  const saved = await queryText(db, {
    name: 'parked-save',
    text: saveHeldText,
    values: [
      ...saveValues(epoch, changes),
      ...Array.from({ length: 13 }, (_, at) => column(at)),
      of(({ row }) => row[2]),
      of(({ row }) => row[3]),
      of(({ row }) => row[0]),
      of(({ row }) => row[4]),
      of(({ row }) => row[1]),
      of(({ row }) => row[5]),
      of(({ reason }) => reason),
      of(({ recordBytes }) => String(recordBytes)),
      leader,
    ],
    timeoutMs,
  })
  return saved.length === 1
}

/** Aggregates whose release was asked for, at most `limit`. */
export async function readReleasing(db: Queryable, limit: number): Promise<Aggregate[]> {
  const rows = await queryText(db, {
    name: 'parked-releasing',
    text: `select aggregatetype, aggregateid from outbox.parked_aggregates where releasing
            order by aggregatetype, aggregateid limit $1`,
    values: [limit],
    timeoutMs,
  })
  return rows.map(aggregateFrom)
}

export type CopyLimits = { rows: number; payloadBytes: number }

/** The first copies of an aggregate; `complete` when there is none behind them. */
export async function readCopies(
  db: Queryable,
  { aggregateType, aggregateId }: Aggregate,
  limits: CopyLimits,
): Promise<{ rows: OutboxRow[]; complete: boolean }> {
  const rows = await queryText(db, {
    name: 'parked-read',
    text: `select position, id, aggregatetype, aggregateid, aggregateversion, type,
                  to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), source,
                  specversion, correlationid, causationid, traceparent, payload
             from (
               select *, sum(octet_length(payload::text)) over (order by position rows unbounded
                         preceding) - octet_length(payload::text) as bytes_before
                 from (
                   select * from outbox.parked where aggregatetype = $1 and aggregateid = $2
                    order by position limit $3
                 ) as found
             ) as counted
            where bytes_before < $4
            order by position`,
    values: [aggregateType, aggregateId, limits.rows, limits.payloadBytes],
    timeoutMs,
  })
  let payloadBytes = 0
  for (const row of rows) payloadBytes += Buffer.byteLength(row[12] ?? '')
  const complete = rows.length < limits.rows && payloadBytes < limits.payloadBytes
  // Every column is NOT NULL.
  return { rows: rows as unknown as OutboxRow[], complete }
}

// Locked, so that the next leader, who loads what is parked after it has taken the lease, sees what the
// last one did.
const tenure = `mine as (
    select epoch from outbox.relay where epoch = $1 and leader = $2 for no key update
  )`

/** Removes copies that Kafka has confirmed, up to a position. False when the epoch is over. */
export async function removeCopies(
  db: Queryable,
  { epoch, leader }: Tenure,
  { aggregateType, aggregateId, upTo }: Aggregate & { upTo: string },
): Promise<boolean> {
  const rows = await queryText(db, {
    name: 'parked-remove',
    text: `with ${tenure}, gone as (
             delete from outbox.parked using mine
              where aggregatetype = $3 and aggregateid = $4 and position <= $5 returning 1
           ), counted as (
             update outbox.parked_aggregates
                set events = events - (select count(*) from gone)
               from mine where aggregatetype = $3 and aggregateid = $4
           )
           select from mine`,
    values: [epoch, leader, aggregateType, aggregateId, upTo],
    timeoutMs,
  })
  return rows.length === 1
}

/** A release met an event that Kafka refuses: it waits again. False when the epoch is over. */
export async function parkAgain(
  db: Queryable,
  { epoch, leader }: Tenure,
  { row, reason, recordBytes }: Refused,
): Promise<boolean> {
  const { aggregateType, aggregateId } = aggregateOf(row)
  const rows = await queryText(db, {
    name: 'parked-again',
    text: `with ${tenure}, was as (
             select * from outbox.parked_aggregates where aggregatetype = $3 and aggregateid = $4
           ), again as (
             update outbox.parked_aggregates as parked
                set releasing = false, refusals = refusals + 1, refused_at = clock_timestamp(),
                    position = $5, version = $6, event_id = $7, event_type = $8, refusal = $9,
                    record_bytes = $10
               from mine where aggregatetype = $3 and aggregateid = $4
             returning parked.*
           ), told as (
             insert into outbox.audit (epoch, actor, action, before, after, reason)
             select mine.epoch, $2, 'aggregate_parked_again', to_json(was)::text,
                    to_json(again)::text, 'Kafka refused an event: ' || again.refusal
               from mine, was, again
           )
           select from mine`,
    values: [
      epoch,
      leader,
      aggregateType,
      aggregateId,
      row[0],
      row[4],
      row[1],
      row[5],
      reason,
      recordBytes,
    ],
    timeoutMs,
  })
  return rows.length === 1
}

/**
 * Parks the aggregate no more, if its release is asked for and no copy of it is left: false where one
 * is, undefined when the epoch is over.
 */
export async function unpark(
  db: Queryable,
  { epoch, leader }: Tenure,
  { aggregateType, aggregateId }: Aggregate,
): Promise<boolean | undefined> {
  const [row] = await queryText(db, {
    name: 'parked-unpark',
    text: `with ${tenure}, gone as (
             delete from outbox.parked_aggregates as parked using mine
              where aggregatetype = $3 and aggregateid = $4 and releasing
                and not exists (select from outbox.parked as copy
                                 where copy.aggregatetype = $3 and copy.aggregateid = $4)
             returning parked.*
           ), told as (
             insert into outbox.audit (epoch, actor, action, before, after, reason)
             select mine.epoch, $2, 'aggregate_released', to_json(gone)::text, null,
                    'nothing of it waits any more'
               from mine, gone
           )
           select (select count(*) from gone) from mine`,
    values: [epoch, leader, aggregateType, aggregateId],
    timeoutMs,
  })
  return row === undefined ? undefined : row[0] === '1'
}

export type ParkedCounts = { aggregates: number; events: number }

/** Counted up to this many aggregates: this many means "at least". */
const parkedBound = 10_000

export async function readParkedCounts(db: Queryable): Promise<ParkedCounts> {
  const [row] = await queryText(db, {
    name: 'parked-counts',
    text: `select count(*), coalesce(sum(events), 0)
             from (select events from outbox.parked_aggregates limit $1) as parked`,
    values: [parkedBound],
    timeoutMs,
  })
  return { aggregates: Number(row?.[0] ?? 0), events: Number(row?.[1] ?? 0) }
}
