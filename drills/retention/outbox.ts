import { waitUntil } from 'local-stack'
import { ask } from '../sql.ts'

// The partitions of the queue as an operator may see them, in SQL of the drill's own.

/** Of each partition that the drill makes the relays make. */
export const positions = 300

export type Queue = {
  /** The first position that is retained. */
  first: bigint
  /** Partitions that are full, and attached. */
  full: number
  /** Those of the size that the drill asks for, and where they begin. */
  small: number
  firstSmall: bigint
  lastDrawn: bigint
  /** Everything below is published, but for gaps. */
  next: bigint
  /** Runs of maintenance that made or retired something. */
  acts: number
}

export async function lookAt(writeUrl: string): Promise<Queue> {
  const [row] = await ask<Record<keyof Queue, string>>(
    writeUrl,
    `with bounds as (
       select regexp_match(pg_get_expr(relpartbound, oid), '(\\d+)\\D+(\\d+)') as b
         from pg_inherits join pg_class on oid = inhrelid
        where inhparent = 'outbox.events'::regclass and not inhdetachpending
     ), ranges as (
       select b[1]::bigint as first, b[2]::bigint - 1 as last from bounds
     ), drawn as (
       select coalesce(pg_sequence_last_value('outbox.events_position_seq'), 0) as position
     )
     select min(first)::text as first, count(*) filter (where last <= position)::text as full,
            count(*) filter (where last - first < $1)::text as small, position::text as "lastDrawn",
            coalesce(min(first) filter (where last - first < $1), 0)::text as "firstSmall",
            (select next_position::text from outbox.relay) as next,
            (select count(*)::text from outbox.audit where actor = 'maintenance') as acts
       from ranges, drawn group by position`,
    [positions],
  )
  if (row === undefined) throw new Error('outbox.events has no partition')
  const { full, small, acts } = row
  return {
    first: BigInt(row.first),
    lastDrawn: BigInt(row.lastDrawn),
    next: BigInt(row.next),
    full: Number(full),
    small: Number(small),
    firstSmall: BigInt(row.firstSmall),
    acts: Number(acts),
  }
}

/** Resolves with the queue once it is so. */
export async function becomes(
  writeUrl: string,
  what: string,
  is: (queue: Queue) => boolean,
): Promise<Queue> {
  let seen: Queue | undefined
  const look = async () => is((seen = await lookAt(writeUrl)))
  await waitUntil(look, { what, deadlineMs: 120_000, intervalMs: 100 })
  return seen!
}

/**
 * The relays make small partitions behind those that migrate made; the next position drawn is the first of
 * theirs. What lies between is one gap, which nobody fills.
 */
export async function makeSmall(writeUrl: string): Promise<void> {
  await becomes(writeUrl, 'small partitions', ({ small }) => small >= 20)
  const { firstSmall } = await lookAt(writeUrl)
  await ask(writeUrl, `select setval('outbox.events_position_seq', $1)`, [String(firstSmall - 1n)])
}
