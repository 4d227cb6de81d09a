import type { Pool } from 'pg'
import type { Place } from '../offsets.ts'
import type { Queryable, Transaction } from '../transaction.ts'

// Every statement on read.quarantine but those of the reports. Who locks: a chunk, entries in the
// order of ids, and then no row of those accounts; a repair, its account's row and then its entry.

/** What puts an account into quarantine. */
export type NewEntry = {
  account: string
  code: string
  detail: string
  /** The version that the read model has next, and the one that came; null where it is not known. */
  wanted: number | null
  seen: number | null
  highest: number
  /** Where in the log it began; null where the log shows nothing. */
  offset: bigint | null
}

export type Entry = {
  account: string
  code: string
  highest: number
  wanted: number | null
  skipThrough: number | null
  attempts: number
}

type Row = Record<'account_id' | 'code' | 'highest', string> &
  Record<'wanted' | 'skip_through', string | null> & { attempts: number }

const columns = 'account_id, code, highest, wanted, skip_through, attempts'

const numberOr = (text: string | null) => (text === null ? null : Number(text))

const entryOf = (row: Row): Entry => ({
  account: row.account_id,
  code: row.code,
  highest: Number(row.highest),
  wanted: numberOr(row.wanted),
  skipThrough: numberOr(row.skip_through),
  attempts: row.attempts,
})

/**
 * Which of these accounts are in quarantine. Their entries stay locked, so that none is released
 * before the events at hand are counted in its highest version; and one released just now is not
 * among them, with what released it visible.
 */
export async function lockEntries(
  transaction: Queryable,
  projection: string,
  accounts: readonly string[],
): Promise<Set<string>> {
  const { rows } = await transaction.query<{ account_id: string }>({
    name: 'quarantine-lock',
    text: `select account_id from read.quarantine
      where projection = $1 and account_id = any($2) order by account_id for update`,
    values: [projection, accounts],
  })
  return new Set(rows.map((row) => row.account_id))
}

/** Events of accounts in quarantine came: their release has to reach these versions. */
export async function raiseHighest(
  transaction: Transaction,
  projection: string,
  versions: ReadonlyMap<string, number>,
): Promise<void> {
  if (versions.size === 0) return
  await transaction.query({
    name: 'quarantine-raise',
    text: `update read.quarantine q set highest = n.version
      from unnest($2::text[], $3::bigint[]) as n(account_id, version)
      where q.projection = $1 and q.account_id = n.account_id and q.highest < n.version`,
    values: [projection, [...versions.keys()], [...versions.values()]],
  })
}

/** Puts accounts into quarantine. Of one that is there already only the highest version may rise,
 * and a conflict replaces any other reason: it alone asks for a rebuild. */
export async function putEntries(
  transaction: Queryable,
  { projection, topic, partition }: Place,
  entries: readonly NewEntry[],
): Promise<void> {
  if (entries.length === 0) return
  const sorted = entries.toSorted((one, other) => (one.account < other.account ? -1 : 1))
  await transaction.query({
    name: 'quarantine-put',
    text: `insert into read.quarantine as q (projection, topic, partition, account_id, code, detail,
        wanted, seen, highest, record_offset)
      select $1, $2, $3, * from unnest($4::text[], $5::text[], $6::text[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::bigint[])
      on conflict (projection, account_id) do update set
        highest = greatest(q.highest, excluded.highest),
        code = case excluded.code when 'version_conflict' then excluded.code else q.code end,
        detail = case excluded.code when 'version_conflict' then excluded.detail else q.detail end`,
    values: [
      projection,
      topic,
      partition,
      sorted.map(({ account }) => account),
      sorted.map(({ code }) => code),
      sorted.map(({ detail }) => detail),
      sorted.map(({ wanted }) => wanted),
      sorted.map(({ seen }) => seen),
      sorted.map(({ highest }) => highest),
      sorted.map(({ offset }) => offset),
    ],
  })
}

/** The account's entry, locked where a transaction asks for it to be. */
export async function findEntry(
  transaction: Queryable,
  { projection, account, lock }: { projection: string; account: string; lock: boolean },
): Promise<Entry | undefined> {
  const { rows } = await transaction.query<Row>(
    `select ${columns} from read.quarantine
      where projection = $1 and account_id = $2 ${lock ? 'for update' : ''}`,
    [projection, account],
  )
  return rows[0] && entryOf(rows[0])
}

export async function removeEntry(
  database: Queryable,
  projection: string,
  account: string,
): Promise<void> {
  await database.query('delete from read.quarantine where projection = $1 and account_id = $2', [
    projection,
    account,
  ])
}

/**
 * Entries whose next attempt is due, at most `limit`; each is put off by a growing wait with jitter,
 * 250 ms to 30 s, so that a second process leaves them alone and a failure needs no statement.
 */
export async function claimDue(pool: Pool, projection: string, limit: number): Promise<string[]> {
  const { rows } = await pool.query<{ account_id: string }>({
    name: 'quarantine-claim',
    text: `update read.quarantine set attempts = attempts + 1,
        next_attempt_at = clock_timestamp() + (0.5 + random() / 2)
          * least(30, 0.25 * 2 ^ least(attempts, 10)) * interval '1 second'
      where (projection, account_id) in (
        select projection, account_id from read.quarantine
        where projection = $1 and next_attempt_at <= clock_timestamp()
        order by next_attempt_at limit $2 for update skip locked)
      returning account_id`,
    values: [projection, limit],
  })
  return rows.map((row) => row.account_id)
}

/** The feed answers again: whoever's last attempt failed for that need not wait any longer. */
export async function makeDue(pool: Pool, projection: string, problem: string): Promise<void> {
  await pool.query(
    `update read.quarantine set attempts = 0, next_attempt_at = clock_timestamp(), problem = null
      where projection = $1 and problem = $2`,
    [projection, problem],
  )
}

/** What an attempt met. `newCode` replaces the entry's reason; `soon` makes the next attempt due. */
export async function noteProblem(
  database: Queryable,
  { projection, account }: { projection: string; account: string },
  problem: { code: string; detail: string; newCode?: string; soon?: true },
): Promise<void> {
  const { code, detail, newCode = null, soon = false } = problem
  await database.query(
    `update read.quarantine set problem = $3, problem_detail = $4, code = coalesce($5, code),
        next_attempt_at = case when $6 then clock_timestamp() else next_attempt_at end
      where projection = $1 and account_id = $2`,
    [projection, account, code, detail, newCode, soon],
  )
}

export async function countEntries(pool: Pool, projection: string): Promise<number> {
  const { rows } = await pool.query<{ count: number }>({
    name: 'quarantine-count',
    text: 'select count(*)::int as count from read.quarantine where projection = $1',
    values: [projection],
  })
  return rows[0]?.count ?? 0
}
