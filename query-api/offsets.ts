import type { Queryable, Transaction } from './transaction.ts'

// One row per projection and partition says how far it is applied, written in the transaction that
// applied it. The topic's id is kept with it: offsets of a topic made anew mean other records.

export type Place = { projection: string; topic: string; partition: number }
export type StoredOffset = { partition: number; topicId: string; next: bigint }

type Row = { partition: number; topic_id: string; next_offset: string }

const storedOf = ({ partition, topic_id, next_offset }: Row): StoredOffset => ({
  partition,
  topicId: topic_id,
  next: BigInt(next_offset),
})

export type ReadOffset = StoredOffset & {
  /** How long ago the last applied record was written; null before any was. */
  throughSeconds: number | null
}

/** All rows of a projection, whoever's partitions they are. */
export async function readOffsets(
  database: Queryable,
  { projection, topic }: Omit<Place, 'partition'>,
): Promise<ReadOffset[]> {
  const { rows } = await database.query<Row & { through_seconds: number | null }>({
    name: 'read-offsets',
    text: `select partition, topic_id, next_offset,
        extract(epoch from clock_timestamp() - through_at)::float8 as through_seconds
      from read.offsets where projection = $1 and topic = $2 order by partition`,
    values: [projection, topic],
  })
  return rows.map((row) => ({ ...storedOf(row), throughSeconds: row.through_seconds }))
}

/**
 * How late a partition is: none of its events that are not applied is older than this. Null when
 * nothing is known of when its last record was written.
 */
export function lagSeconds(events: number, throughSeconds: number | null): number | null {
  if (events === 0) return 0
  return throughSeconds === null ? null : Math.max(0, throughSeconds)
}

/** Makes the rows that are missing, at 0; then says what is stored for these partitions. */
export async function ensureOffsets(
  database: Queryable,
  { projection, topic, topicId }: { projection: string; topic: string; topicId: string },
  partitions: readonly number[],
): Promise<StoredOffset[]> {
  await database.query(
    `insert into read.offsets (projection, topic, partition, topic_id, next_offset)
      select $1, $2, unnest($3::int[]), $4, 0 on conflict do nothing`,
    [projection, topic, partitions, topicId],
  )
  const stored = await readOffsets(database, { projection, topic })
  return stored.filter(({ partition }) => partitions.includes(partition))
}

export type LockedOffset = StoredOffset & {
  /** Whether any account of this projection is in quarantine: said here, it costs no statement. */
  quarantine: boolean
}

/** Locks a partition's row, making it at 0 where it is missing: the owner's proof that it is alone. */
export async function lockOffset(
  transaction: Transaction,
  place: Place,
  topicId: string,
): Promise<LockedOffset> {
  const { projection, topic, partition } = place
  const select = {
    name: 'lock-offset',
    text: `select partition, topic_id, next_offset,
        exists (select from read.quarantine where projection = $1) as quarantine
      from read.offsets
      where projection = $1 and topic = $2 and partition = $3 for update of offsets`,
    values: [projection, topic, partition],
  }
  let { rows } = await transaction.query<Row & { quarantine: boolean }>(select)
  if (rows.length === 0) {
    await ensureOffsets(transaction, { projection, topic, topicId }, [partition])
    rows = (await transaction.query<Row & { quarantine: boolean }>(select)).rows
  }
  const row = rows[0]!
  return { ...storedOf(row), quarantine: row.quarantine }
}

/** `throughAt` is when the last of these records was written; undefined leaves it as it is. */
export function saveOffset(
  transaction: Transaction,
  { projection, topic, partition }: Place,
  { next, throughAt = null }: { next: bigint; throughAt?: string | null | undefined },
): void {
  transaction.send({
    name: 'save-offset',
    text: `update read.offsets set next_offset = $4, through_at = coalesce($5, through_at)
      where projection = $1 and topic = $2 and partition = $3`,
    values: [projection, topic, partition, next, throughAt],
  })
}

/** Notes the newest heartbeat; a repeated older one changes nothing. */
export function noteHeartbeat(
  transaction: Transaction,
  { projection, partition }: Place,
  occurredAt: string,
): void {
  transaction.send({
    name: 'note-heartbeat',
    text: `insert into read.heartbeats as h (projection, partition, occurred_at, applied_at)
      values ($1, $2, $3, clock_timestamp())
      on conflict (projection, partition) do update
        set occurred_at = excluded.occurred_at, applied_at = excluded.applied_at
        where h.occurred_at < excluded.occurred_at`,
    values: [projection, partition, occurredAt],
  })
}
