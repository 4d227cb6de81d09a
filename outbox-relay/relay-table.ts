import { type Gap, type GapChanges, type Progress, progressFrom } from './progress.ts'
import { bigintArray, type Queryable, queryText } from './text-query.ts'
import { RelayError } from './errors.ts'

// outbox.relay and outbox.gaps: one statement per function, each a transaction of its own.

/** The one row of outbox.relay, beside what the server says of itself. */
export type RelayRow = {
  mode: string
  /** Null: given back, or never held. */
  leader: string | null
  epoch: string
  renewal: string
  /** Of the server that progress was made on; null before the first leader. */
  systemIdentifier: string | null
  serverIdentifier: string
  /** The history that progress was made on, and the server's own; null on a standby. */
  timeline: string | null
  serverTimeline: string | null
  /** The last position drawn on this server; null when none was. */
  lastDrawn: string | null
  /** The value of RELAY_MODE that was acted upon last. */
  modeVariable: string | null
  isStandby: boolean
}

const timeoutMs = 5_000

/** Throws `relay_row_missing` when somebody deleted it. */
export async function readRelayRow(db: Queryable): Promise<RelayRow> {
  const [row] = await queryText(db, {
    name: 'relay-row',
    text: `select mode, leader, epoch, renewal, relay.system_identifier,
                  server.system_identifier, pg_is_in_recovery(), timeline,
                  case when not pg_is_in_recovery() then
                    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint
                  end,
                  pg_sequence_last_value('outbox.events_position_seq'), mode_variable
             from outbox.relay, pg_control_system() as server`,
    values: [],
    timeoutMs,
  })
  if (row === undefined) throw rowMissing()
  return {
    mode: row[0] ?? '',
    leader: row[1] ?? null,
    epoch: row[2] ?? '',
    renewal: row[3] ?? '',
    systemIdentifier: row[4] ?? null,
    serverIdentifier: row[5] ?? '',
    isStandby: row[6] === 't',
    timeline: row[7] ?? null,
    serverTimeline: row[8] ?? null,
    lastDrawn: row[9] ?? null,
    modeVariable: row[10] ?? null,
  }
}

/**
 * Makes `leader` the leader of a new epoch, which is returned, unless the row has moved since it was
 * read. The first leader of all records which server this is.
 */
export async function takeLease(
  db: Queryable,
  leader: string,
  seen: RelayRow,
): Promise<string | undefined> {
  const [row] = await queryText(db, {
    name: 'relay-take',
    text: `update outbox.relay
              set leader = $1, epoch = epoch + 1, renewal = renewal + 1,
                  system_identifier = coalesce(system_identifier, $4),
                  timeline = coalesce(timeline, $5)
            where epoch = $2 and renewal = $3
        returning epoch`,
    values: [leader, seen.epoch, seen.renewal, seen.serverIdentifier, seen.serverTimeline],
    timeoutMs,
  })
  return row?.[0] ?? undefined
}

/** Epochs repeat when the row is restored to an older state: only with its leader is one unlike others. */
export type Tenure = { epoch: string; leader: string }

/** False when another tenure has begun. */
export async function renewLease(
  db: Queryable,
  { epoch, leader }: Tenure,
  limitMs: number,
): Promise<boolean> {
  const rows = await queryText(db, {
    name: 'relay-renew',
    text: `update outbox.relay set renewal = renewal + 1
            where epoch = $1 and leader = $2 returning 1`,
    values: [epoch, leader],
    timeoutMs: limitMs,
  })
  return rows.length === 1
}

/** Gives the lease back, so that a successor need not wait for it to run out. */
export async function releaseLease(db: Queryable, { epoch, leader }: Tenure): Promise<void> {
  await queryText(db, {
    name: 'relay-release',
    text: `update outbox.relay set leader = null, renewal = renewal + 1
            where epoch = $1 and leader = $2`,
    values: [epoch, leader],
    timeoutMs: 2_000,
  })
}

/** Progress as the last leader saved it; read after the lease was taken, when no other can save. */
export async function loadProgress(db: Queryable): Promise<Progress> {
  const rows = await queryText(db, {
    name: 'relay-load',
    text: `select next_position, first_position, last_position
             from outbox.relay left join outbox.gaps on true
            order by first_position`,
    values: [],
    timeoutMs,
  })
  const next = rows[0]?.[0]
  if (typeof next !== 'string') throw rowMissing()
  return progressFrom(BigInt(next), rows.flatMap(savedRange))
}

function savedRange([, first, last]: (string | null)[]): (readonly [bigint, bigint])[] {
  return typeof first === 'string' && typeof last === 'string'
    ? [[BigInt(first), BigInt(last)]]
    : []
}

export type ProgressChanges = {
  /** What `next` is in the table, as the last save or the load left it. */
  from: bigint
  next: bigint
  gaps: GapChanges
}

/**
 * What every save of progress does, for statements that write more with it: all of it or nothing, and
 * `mine` without a row, when the epoch is not the present one, or the table is not as it was left: a
 * restore under a living leader, whose changes mean nothing there. A gap that lost its first position
 * is another row; one that lost its end is the same row, shortened. It takes $1 to $6.
 */
export const saveParts = `mine as (
             update outbox.relay set next_position = $2
              where epoch = $1 and next_position = $6 returning epoch
           ), gone as (
             delete from outbox.gaps using mine where first_position = any($3::bigint[])
           ), come as (
             insert into outbox.gaps (first_position, last_position)
             select gap.first, gap.last
               from mine, unnest($4::bigint[], $5::bigint[]) as gap (first, last)
             on conflict (first_position) do update set last_position = excluded.last_position
           )`

export function saveValues(epoch: string, { from, next, gaps }: ProgressChanges): string[] {
  return [
    epoch,
    String(next),
    bigintArray(gaps.closed),
    bigintArray(gaps.opened.map((gap: Gap) => gap.first)),
    bigintArray(gaps.opened.map((gap: Gap) => gap.last)),
    String(from),
  ]
}

/** Writes what changed; false when nothing was written. */
export async function saveProgress(
  db: Queryable,
  epoch: string,
  changes: ProgressChanges,
): Promise<boolean> {
  const rows = await queryText(db, {
    name: 'relay-save',
    text: `with ${saveParts} select from mine`,
    values: saveValues(epoch, changes),
    timeoutMs,
  })
  return rows.length === 1
}

/** What is kept for ever of everything done to the relay, by somebody or by itself. */
export type AuditEntry = {
  /** A process, or a person. */
  actor: string
  action: string
  before: string | null
  after: string | null
  reason: string
}

// What is written down is written with what it tells of, in one statement. These throw `progress_fenced`
// when another epoch has begun: then nothing was written.

export async function writeAudit(db: Queryable, epoch: string, entry: AuditEntry): Promise<void> {
  const { actor, action, before, after, reason } = entry
  const rows = await queryText(db, {
    name: 'relay-audit',
    text: `insert into outbox.audit (epoch, actor, action, before, after, reason)
           select epoch, $2, $3, $4, $5, $6 from outbox.relay where epoch = $1
           returning 1`,
    values: [epoch, actor, action, before, after, reason],
    timeoutMs,
  })
  requireEpoch(rows)
}

/** Back to the first position, on the server's present timeline. */
export async function resetProgress(
  db: Queryable,
  epoch: string,
  { actor, reason, timeline }: { actor: string; reason: string; timeline: string | null },
): Promise<void> {
  const rows = await queryText(db, {
    name: 'relay-reset',
    text: `with before as (
             select next_position from outbox.relay for update
           ), mine as (
             update outbox.relay set next_position = 1, timeline = coalesce($4, timeline)
               from before where epoch = $1 returning epoch, before.next_position as before
           ), gone as (
             delete from outbox.gaps using mine
           ), told as (
             insert into outbox.audit (epoch, actor, action, before, after, reason)
             select epoch, $2, 'progress_reset', before, '1', $3 from mine
           )
           select from mine`,
    values: [epoch, actor, reason, timeline],
    timeoutMs,
  })
  requireEpoch(rows)
}

function requireEpoch(rows: readonly unknown[]): void {
  if (rows.length === 1) return
  throw new RelayError('progress_fenced', 'another leader has begun: nothing was written')
}

export type TableStatus = {
  mode: string
  leader: string | null
  epoch: string
  next: string
  gaps: number
  /** Committed rows not yet saved as published, counted up to the bound given. */
  backlog: number
  oldestUnpublishedMs: number | null
}

/** What anybody can tell from the tables, leader or not. */
export async function readTableStatus(db: Queryable, backlogBound: number): Promise<TableStatus> {
  const [row] = await queryText(db, {
    name: 'relay-status',
    text: `with waiting as (
             select late.position, late.occurred_at from outbox.gaps
              cross join lateral (
                select position, occurred_at from outbox.events
                 where position between gaps.first_position and gaps.last_position
                 order by position limit $1
              ) as late
             union all
             (select position, occurred_at from outbox.events
               where position >= (select next_position from outbox.relay)
               order by position limit $1)
             order by position limit $1
           )
           select mode, leader, epoch, next_position,
                  (select count(*) from outbox.gaps),
                  (select count(*) from waiting),
                  (select round(1000 * extract(epoch from clock_timestamp() - min(occurred_at)))
                     from waiting)
             from outbox.relay`,
    values: [backlogBound],
    timeoutMs,
  })
  if (row === undefined) throw rowMissing()
  const oldest = row[6]
  return {
    mode: row[0] ?? '',
    leader: row[1] ?? null,
    epoch: row[2] ?? '',
    next: row[3] ?? '',
    gaps: Number(row[4]),
    backlog: Number(row[5]),
    // Events are dated by the command side, whose clock may be a little ahead of the server's.
    oldestUnpublishedMs: typeof oldest === 'string' ? Math.max(0, Number(oldest)) : null,
  }
}

function rowMissing(): RelayError {
  return new RelayError(
    'relay_row_missing',
    'outbox.relay has no row: progress is lost. Restore the row; with next_position 1 and no gaps ' +
      'everything retained is published again, which consumers recognise as repeats',
  )
}
