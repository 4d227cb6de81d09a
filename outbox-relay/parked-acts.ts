import type { Aggregate } from './parking.ts'
import { type Queryable, queryText, type TextRow } from './text-query.ts'

// What people see of parked aggregates, and do to them, by any process: they ask, and the leader does.
// Each act is one statement with its line in outbox.audit.

const timeoutMs = 5_000

export type ParkedAggregate = Aggregate & {
  /** The event that was refused; its payload is nobody's to see here. */
  refused: {
    position: string
    version: string
    id: string
    type: string
    reason: string
    recordBytes: number
    at: string
    times: number
  }
  since: string
  /** Copies that wait, the refused event among them. */
  events: number
  releasing: boolean
}

const time = (column: string) =>
  `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
const columns = `aggregatetype, aggregateid, position, version, event_id, event_type, refusal,
  record_bytes, ${time('refused_at')}, refusals, ${time('since')}, events, releasing`

function parkedFrom(row: TextRow): ParkedAggregate {
  const at = (column: number) => row[column] ?? ''
  return {
    aggregateType: at(0),
    aggregateId: at(1),
    refused: {
      position: at(2),
      version: at(3),
      id: at(4),
      type: at(5),
      reason: at(6),
      recordBytes: Number(row[7]),
      at: at(8),
      times: Number(row[9]),
    },
    since: at(10),
    events: Number(row[11]),
    releasing: row[12] === 't',
  }
}

/** Parked aggregates in the order of type and id, from behind `after`. */
export async function listParked(
  db: Queryable,
  { after, limit }: { after: Aggregate; limit: number },
): Promise<ParkedAggregate[]> {
  const rows = await queryText(db, {
    name: 'parked-list',
    text: `select ${columns} from outbox.parked_aggregates
            where (aggregatetype, aggregateid) > ($1, $2)
            order by aggregatetype, aggregateid limit $3`,
    values: [after.aggregateType, after.aggregateId, limit],
    timeoutMs,
  })
  return rows.map(parkedFrom)
}

export type Act = Aggregate & { actor: string; reason: string }

/**
 * `retry` asks for a release of everything that waits; `skip` first removes the refused event, which
 * then never comes to the topic. Gives the entry as it is afterwards.
 */
export async function askForRelease(
  db: Queryable,
  kind: 'retry' | 'skip',
  { aggregateType, aggregateId, actor, reason }: Act,
): Promise<ParkedAggregate | 'not_parked' | 'release_under_way'> {
  const [row] = await queryText(db, {
    name: `parked-${kind}`,
    text: `with entry as (
             select * from outbox.parked_aggregates
              where aggregatetype = $1 and aggregateid = $2 for no key update
           ), ${skipped[kind]}, changed as (
             update outbox.parked_aggregates as parked
                set releasing = true, events = parked.events - (select count(*) from skipped)
               from entry
              where parked.aggregatetype = $1 and parked.aggregateid = $2 and not entry.releasing
             returning parked.*
           ), told as (
             insert into outbox.audit (epoch, actor, action, before, after, reason)
             select relay.epoch, $3, 'parked_${kind}', to_json(entry)::text, to_json(changed)::text, $4
               from entry, changed, outbox.relay
           )
           select ${columns}, (select count(*) from entry)
             from (values (1)) as one left join changed on true`,
    values: [aggregateType, aggregateId, actor, reason],
    timeoutMs,
  })
  if (row?.[13] !== '1') return 'not_parked'
  return row[0] === null ? 'release_under_way' : parkedFrom(row)
}

const skipped = {
  retry: 'skipped as (select where false)',
  skip: `skipped as (
             delete from outbox.parked as copy using entry
              where copy.aggregatetype = $1 and copy.aggregateid = $2
                and copy.position = entry.position and not entry.releasing
             returning 1
           )`,
} as const

/** What one request for all asks for; it is asked again for the rest. */
const mostAtOnce = 10_000

/**
 * `retry` of everything that waits and is not being released, at most 10,000 aggregates at once. Gives
 * how many were asked for.
 */
export async function askForReleaseOfAll(
  db: Queryable,
  { actor, reason }: Pick<Act, 'actor' | 'reason'>,
): Promise<number> {
  // The row of outbox.relay first, as whoever parks or releases does: so neither waits for the other in
  // a circle.
  const [row] = await queryText(db, {
    name: 'parked-retry-all',
    text: `with relay as materialized (
             select epoch from outbox.relay for no key update
           ), waiting as (
             select aggregatetype, aggregateid from outbox.parked_aggregates, relay
              where not releasing order by aggregatetype, aggregateid limit $3
                for no key update of parked_aggregates
           ), changed as (
             update outbox.parked_aggregates as parked set releasing = true from waiting
              where parked.aggregatetype = waiting.aggregatetype
                and parked.aggregateid = waiting.aggregateid
             returning parked.events
           ), asked as (
             select count(*) as aggregates, coalesce(sum(events), 0) as events from changed
           ), told as (
             insert into outbox.audit (epoch, actor, action, before, after, reason)
             select epoch, $1, 'parked_retry_all', to_json(asked)::text,
                    json_build_object('releasing', aggregates)::text, $2
               from asked, relay where aggregates > 0
           )
           select aggregates from asked`,
    values: [actor, reason, mostAtOnce],
    timeoutMs,
  })
  return Number(row?.[0] ?? 0)
}
