import {
  afterHolders,
  afterReading,
  type GapProof,
  type Progress,
  type Range,
  type Reading,
  upTo,
  withoutHolders,
  withoutPositions,
} from './progress.ts'
import { RelayError } from './errors.ts'
import { bigintArray, type Queryable, queryText } from './text-query.ts'
import type { OutboxRow } from './wire.ts'

// The gap cursor: reads committed rows in an order that is each aggregate's version order, passes
// over no row that commits late, and waits for no transaction that has nothing to do with the outbox.
//
// Positions are drawn in one order and become visible in another. So everything not yet seen below
// the highest row seen is a gap, and each statement looks, in one snapshot, into all open gaps and
// beyond them, lowest position first. Writers lock an aggregate before they draw a position for it:
// whoever sees its version 2 also sees version 1, at a lower position. So a batch is in order even
// where it comes out of a gap, provided that gaps and tail share the snapshot, and that the limit
// cuts the whole and not its parts.
//
// When is a gap empty for good? Let p be a position in a gap, found by statement k, and T the
// transaction that drew p.
//   1. T drew p before k's snapshot. k saw a row q > p, positions are drawn one at a time in
//      ascending order (CACHE 1), and q was drawn before it was visible.
//   2. T took RowExclusiveLock on outbox.events before it drew p, whatever way it inserts (parser or
//      executor lock the parent first; nobody may insert into a partition directly). It keeps the
//      lock until its outcome is visible to every new snapshot: a commit leaves the list of running
//      transactions before its locks go. A savepoint rolled back gives up the lock taken in it, and
//      with it all that was inserted in it.
//   3. Holders H are read after k. If T is not in H, its outcome was visible before H was read. If
//      it is in H, and a later reading of the holders lacks it, its outcome was visible by then.
//      Members only ever leave H: whoever takes the lock after k draws positions above q.
//   4. So once H is empty, a statement sent after that sees p if T committed. If it covers p and
//      lacks it, p stays empty. A statement that stopped at a limit covers positions up to its last
//      row; one that did not stop covers all gaps.
//   5. H names transactions by virtualtransaction, which no other one is given while the server
//      runs. PREPARE TRANSACTION keeps the name, but a restart renames what was prepared, and a
//      session's crash restarts the server under the same postmaster. So sets count within one
//      session of one postmaster: another start time or backend, and all are thrown away. (Behind
//      a pooler that changes backends between statements no gap would ever close.)
//   6. pg_locks misses no lock that is being moved from the fast path to the main table: it reads
//      the fast path first, and moves go only that way.
// No clock takes part: a gap held for an hour is open for an hour. On a standby neither the lock nor
// its holder can be seen, so it is refused.

export type CursorLimits = {
  rows: number
  /** Of payload, in bytes; the first row is read whatever its size. */
  payloadBytes: number
  /** With more open gaps than this the tail is left alone until some of them close. */
  openGaps: number
}

export const defaultLimits: CursorLimits = {
  rows: 1_000,
  payloadBytes: 8_000_000,
  openGaps: 5_000,
}

export type Batch = {
  /** In position order. */
  rows: OutboxRow[]
  positions: bigint[]
  payloadBytes: number
  /** It stopped at no limit, nor left the tail alone: what it did not return was not visible to it. */
  complete: boolean
  /** When the statement was sent, in milliseconds of `performance.now`. */
  sentMs: number
  /** Progress as it was when the statement was sent, and as it is once all rows are published. */
  before: Progress
  after: Progress
}

export type Cursor = {
  read(progress: Progress): Promise<Batch>
  /** Looks only at the open gaps, for whoever has the rows from elsewhere: which will stay empty? */
  proveGaps(progress: Progress): Promise<GapProof>
  /** What is visible and not published, in one snapshot, for whoever publishes it elsewhere. */
  visible(progress: Progress): Promise<Reading>
}

/** Settings of the session that reads: an index scan, whatever the statistics say. */
export const cursorSession = {
  enable_seqscan: 'off',
  enable_bitmapscan: 'off',
  jit: 'off',
  plan_cache_mode: 'force_generic_plan',
  max_parallel_workers_per_gather: '0',
  default_transaction_isolation: 'read committed',
  statement_timeout: '30s',
} as const

const columns = `position, id, aggregatetype, aggregateid, aggregateversion, type,
  to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as time,
  source, specversion, correlationid, causationid, traceparent, payload::text as payload`

// Each gap is an index scan of its own, and so is the tail. The second limit counts payload: a row
// is returned while those before it stay below it.
const readRows = `
  select position, id, aggregatetype, aggregateid, aggregateversion, type, time, source,
         specversion, correlationid, causationid, traceparent, payload
    from (
      select *, sum(octet_length(payload)) over (order by position rows unbounded preceding)
                - octet_length(payload) as bytes_before
        from (
          select late.*
            from unnest($2::bigint[], $3::bigint[]) as gap (first, last)
           cross join lateral (
             select ${columns} from outbox.events
              where position between gap.first and gap.last
              order by position limit $4
           ) as late
          union all
          (select ${columns} from outbox.events
            where position >= $1
            order by position limit $5)
          order by position limit $4
        ) as found
    ) as counted
   where bytes_before < $6
   order by position`

const readHolders = `
  select pg_postmaster_start_time()::text, pg_backend_pid()::text,
         pg_is_in_recovery(),
         string_agg(distinct virtualtransaction, ',')
    from pg_locks
   where locktype = 'relation' and mode = 'RowExclusiveLock' and granted
     and database = (select oid from pg_database where datname = current_database())
     and relation = 'outbox.events'::regclass`

const timeoutMs = 35_000

/** A cursor over one connection, which is its own: the proof above is about one session. */
export function openCursor(connection: Queryable, limits: CursorLimits = defaultLimits): Cursor {
  let session: string | undefined

  async function withHoldersRead(progress: Progress): Promise<Progress> {
    const holders = await presentHolders(connection)
    const known = holders.session === session ? progress : withoutHolders(progress)
    session = holders.session
    return afterHolders(known, holders.names)
  }

  return {
    async read(progress) {
      const before = progress.gaps.length > 0 ? await withHoldersRead(progress) : progress
      const sentMs = performance.now()
      const rows = await rowsFrom(connection, before, limits)
      const positions = rows.map((row) => BigInt(row[0]))
      let payloadBytes = 0
      for (const row of rows) payloadBytes += Buffer.byteLength(row[12])
      // At or above the limit the statement may have stopped there; to call it stopped is safe.
      const unstopped = rows.length < limits.rows && payloadBytes < limits.payloadBytes
      const after = afterReading(before, { positions, complete: unstopped })
      const complete = unstopped && readsTail(before, limits)
      return { rows, positions, payloadBytes, complete, sentMs, before, after }
    },

    async proveGaps(progress) {
      const { gaps: observed } = await withHoldersRead(progress)
      const unheld = observed.filter(({ holders }) => holders?.size === 0)
      if (unheld.length === 0) return { observed, dead: [] }
      const looked = unheld.slice(0, limits.openGaps)
      const visible = await positionsIn(connection, looked)
      const last = visible.at(-1)
      const covered =
        visible.length < visibleLimit || last === undefined ? looked : upTo(looked, last)
      return { observed, dead: withoutPositions(covered, visible) }
    },

    async visible({ next, gaps }) {
      const tail = gaps.length > limits.openGaps ? [] : [{ first: next, last: lastPosition }]
      const positions = await positionsIn(connection, [...gaps, ...tail])
      return { positions, complete: positions.length < visibleLimit }
    },
  }
}

const readsTail = ({ gaps }: Progress, limits: CursorLimits) => gaps.length <= limits.openGaps

async function rowsFrom(connection: Queryable, progress: Progress, limits: CursorLimits) {
  const { next, gaps } = progress
  const rows = await queryText(connection, {
    name: 'relay-read',
    text: readRows,
    values: [
      String(next),
      bigintArray(gaps.map((gap) => gap.first)),
      bigintArray(gaps.map((gap) => gap.last)),
      limits.rows,
      readsTail(progress, limits) ? limits.rows : 0,
      limits.payloadBytes,
    ],
    timeoutMs,
  })
  // Every column is NOT NULL.
  return rows as unknown as OutboxRow[]
}

/** More are not looked at together: a large transaction may be visible long before it is decoded. */
const visibleLimit = 100_000
/** Of a bigint. */
const lastPosition = 2n ** 63n - 1n

/** Visible positions in these ranges, ascending, at most `visibleLimit`. */
async function positionsIn(connection: Queryable, ranges: readonly Range[]): Promise<bigint[]> {
  const rows = await queryText(connection, {
    name: 'relay-gaps',
    text: `select position from unnest($1::bigint[], $2::bigint[]) as gap (first, last)
             cross join lateral (
               select position from outbox.events where position between gap.first and gap.last
                order by position limit ${visibleLimit}
             ) as found
            order by position limit ${visibleLimit}`,
    values: [
      bigintArray(ranges.map((range) => range.first)),
      bigintArray(ranges.map((range) => range.last)),
    ],
    timeoutMs,
  })
  return rows.map(([position]) => BigInt(position ?? 0))
}

/**
 * Who may still insert below what has been seen, by names that hold within one `session` for a proof,
 * and within one start of the `server` for a wait.
 */
export async function presentHolders(connection: Queryable) {
  const [row] = await queryText(connection, {
    name: 'relay-holders',
    text: readHolders,
    values: [],
    timeoutMs,
  })
  if (row?.[2] !== 'f') throw onStandby()
  const server = row[0] ?? ''
  return { server, session: `${server} ${row[1]}`, names: new Set(row[3]?.split(',') ?? []) }
}

export function onStandby(): RelayError {
  return new RelayError(
    'standby_server',
    'this server is a standby, where locks and running transactions cannot be seen: give the ' +
      "primary's address",
  )
}
