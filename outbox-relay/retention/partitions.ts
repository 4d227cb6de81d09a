import type { Range } from '../progress.ts'
import { type Queryable, queryText } from '../text-query.ts'
import { isPassed, type Partition, type Partitions } from './plan.ts'

// Every statement on the partitions of outbox.events. None of them may make a command wait, however
// long a transaction is open that uses the table:
//   - ATTACH and DETACH CONCURRENTLY lock the parent against each other only, not against inserts;
//   - a new partition is attached empty, so that there is nothing to scan: it needs no CHECK, which
//     would cost something at every insert. Made and attached in one transaction, it is there or not;
//   - DETACH CONCURRENTLY first makes the partition invisible to new statements, then waits for those
//     that may see it. Cut off there (a lock_timeout, a crash) it is pending, until FINALIZE ends it;
//   - only what is detached is dropped, which nobody else looks at.
// All run under the session's lock_timeout; the caller tries again.

const timeoutMs = 15_000

const readAll = `
  with tables as (
    select c.relname::text as name,
           case when inhparent is null then 'detached'
                when inhdetachpending then 'pending' else 'attached' end as state,
           regexp_match(pg_get_expr(c.relpartbound, c.oid),
                        'FROM \\(''?(\\d+)''?\\) TO \\(''?(\\d+)''?\\)') as bounds,
           pg_total_relation_size(c.oid) as bytes
      from pg_class c
      left join pg_inherits on inhrelid = c.oid and inhparent = 'outbox.events'::regclass
     where c.relnamespace = 'outbox'::regnamespace and c.relkind = 'r'
       and (inhparent is not null or c.relname ~ '^events_\\d+$')
  ), ranges as (
    select name, state, bytes, step, published_at, published_lsn,
           coalesce(bounds[1]::bigint, first_position) as first,
           coalesce(bounds[2]::bigint - 1, last_position) as last
      from tables left join outbox.published_partitions using (name)
  )
  select pg_sequence_last_value('outbox.events_position_seq'), name, state, bytes, first, last,
         next_position > last and not exists (
           select from outbox.gaps where first_position <= last and last_position >= first
         ),
         step, published_at <= clock_timestamp() - make_interval(secs => $1),
         (select min(slot_name) from pg_replication_slots
           where slot_type = 'logical' and database = current_database()
             and coalesce(confirmed_flush_lsn < published_lsn, true))
    from outbox.relay left join ranges on true
   order by state, first`

/** All in one snapshot. */
export async function readPartitions(db: Queryable, retentionSeconds: number): Promise<Partitions> {
  const rows = await queryText(db, {
    name: 'partitions',
    text: readAll,
    values: [retentionSeconds],
    timeoutMs,
  })
  const all = rows.filter((row) => row[1] !== null).map(partitionOf)
  return { all, lastDrawn: BigInt(rows[0]?.[0] ?? 0) }
}

function partitionOf(row: (string | null)[]): Partition {
  const [, name, state, bytes, first, last, published, step, isOldEnough, slotBehind] = row
  return {
    name: name ?? '',
    state: state as Partition['state'],
    bytes: Number(bytes ?? 0),
    range:
      typeof first === 'string' && typeof last === 'string'
        ? { first: BigInt(first), last: BigInt(last) }
        : null,
    published: published === 't',
    record:
      typeof step === 'string'
        ? {
            step: step as 'kept' | 'retiring' | 'held',
            isOldEnough: isOldEnough === 't',
            slotBehind: slotBehind ?? null,
          }
        : null,
  }
}

export const nameOf = ({ first }: Range) => `events_${String(first).padStart(15, '0')}`

/** Its name is that of its first position, as migrate's are. */
export async function makePartition(db: Queryable, range: Range): Promise<void> {
  const name = nameOf(range)
  await inTransaction(db, async () => {
    await db.query(
      `create table outbox.${name}
         (like outbox.events including defaults including constraints including indexes)`,
    )
    await db.query(
      `alter table outbox.events attach partition outbox.${name}
         for values from (${range.first}) to (${range.last + 1n})`,
    )
    await audit(db, {
      action: 'partition_made',
      before: null,
      after: name,
      reason: boundsOf(range),
    })
  })
}

/**
 * Remembers since when, and since which place in the log, a partition is published; forgets it where
 * progress has stepped back into a partition, or a person has dropped it. What a person has attached
 * is held no more. A decision to retire stays: who slept since he looked must not take back another's.
 */
export async function recordPublished(db: Queryable, { all }: Partitions): Promise<void> {
  const attached = all.filter(({ state }) => state === 'attached')
  const kept = all.filter(({ state, published }) => state !== 'attached' || published)
  await db.query(`delete from outbox.published_partitions where name <> all ($1)`, [
    kept.map(({ name }) => name),
  ])
  const published = attached.filter((each) => each.published && each.range !== null)
  await db.query(
    `insert into outbox.published_partitions as kept (name, first_position, last_position)
     select * from unnest($1::text[], $2::bigint[], $3::bigint[])
     on conflict (name) do update set step = 'kept' where kept.step = 'held'`,
    [
      published.map(({ name }) => name),
      published.map(({ range }) => String(range?.first)),
      published.map(({ range }) => String(range?.last)),
    ],
  )
}

/** From here on it goes, also if whoever decided it dies: the next run finishes it. */
export async function decideRetirement(db: Queryable, partition: Partition): Promise<void> {
  await inTransaction(db, async () => {
    await setStep(db, partition, 'retiring')
    const reason = 'published, passed by every slot, and old enough or too much'
    await audit(db, { action: 'partition_retiring', before: partition.name, after: null, reason })
  })
}

export async function detachPartition(db: Queryable, { name, state }: Partition): Promise<void> {
  if (state === 'detached') return
  const how = state === 'pending' ? 'finalize' : 'concurrently'
  await db.query(`alter table outbox.events detach partition outbox.${name} ${how}`)
}

/** False, and it stays, when it is not detached by us, or not passed any more. */
export async function dropDetached(
  db: Queryable,
  name: string,
  retentionSeconds: number,
): Promise<boolean> {
  return inTransaction(db, async () => {
    // A second one that decided the same waits here, and then finds nothing.
    await db.query('select from outbox.published_partitions where name = $1 for update', [name])
    const { all } = await readPartitions(db, retentionSeconds)
    const found = all.find((partition) => partition.name === name)
    if (found?.state !== 'detached' || found.record?.step !== 'retiring') return false
    if (!isPassed(found)) return false
    await db.query(`drop table outbox.${name}`)
    await db.query('delete from outbox.published_partitions where name = $1', [name])
    const reason = found.range === null ? name : boundsOf(found.range)
    await audit(db, { action: 'partition_retired', before: name, after: null, reason })
    return true
  })
}

/** From here on only a person decides. */
export async function holdPartition(db: Queryable, partition: Partition): Promise<void> {
  await inTransaction(db, async () => {
    await setStep(db, partition, 'held')
    const reason = 'progress stepped back into it while it was being retired'
    await audit(db, { action: 'partition_held', before: partition.name, after: null, reason })
  })
}

async function setStep(db: Queryable, { name }: Partition, step: string): Promise<void> {
  await db.query('update outbox.published_partitions set step = $2 where name = $1', [name, step])
}

const boundsOf = ({ first, last }: Range) => `positions ${first} to ${last}`

type Entry = { action: string; before: string | null; after: string | null; reason: string }

async function audit(db: Queryable, { action, before, after, reason }: Entry): Promise<void> {
  await db.query(
    `insert into outbox.audit (epoch, actor, action, before, after, reason)
     select epoch, 'maintenance', $1, $2, $3, $4 from outbox.relay`,
    [action, before, after, reason],
  )
}

async function inTransaction<T>(db: Queryable, work: () => Promise<T>): Promise<T> {
  await db.query('begin')
  try {
    const result = await work()
    await db.query('commit')
    return result
  } catch (error) {
    // On a lost connection there is nothing left to roll back.
    await db.query('rollback').catch(() => {})
    throw error
  }
}
