import type { Place } from '../offsets.ts'
import type { LogFault, LogStop } from '../stop-reason.ts'
import type { Queryable, Transaction } from '../transaction.ts'

// Every statement on read.stopped_partitions. A fault of the log must outlive the process: a log that
// lost its tail grows past the stored offset again, and then looks sound.

/** A partition that stands still, as it is stored. */
export type Stop = {
  partition: number
  code: LogFault
  detail: string
  /** What is stored in read.offsets, and cannot be gone on from. */
  topicId: string
  next: bigint
  /** The topic as it was found. */
  foundTopicId: string
  /** A person asked for the repair. */
  asked: boolean
}

type Row = Record<'code' | 'detail' | 'topic_id' | 'next_offset' | 'found_topic_id', string> & {
  partition: number
  asked: boolean
}

/** The stops that hold: their offsets stand where they stood. */
export async function readStops(
  database: Queryable,
  { projection, topic }: Omit<Place, 'partition'>,
): Promise<Map<number, Stop>> {
  const { rows } = await database.query<Row>({
    name: 'read-stops',
    text: `select partition, code, detail, topic_id, next_offset, found_topic_id,
        asked_at is not null as asked
      from read.stopped_partitions
      join read.offsets using (projection, topic, partition, topic_id, next_offset)
      where projection = $1 and topic = $2 order by partition`,
    values: [projection, topic],
  })
  return new Map(
    rows.map((row) => [
      row.partition,
      {
        partition: row.partition,
        code: row.code as LogFault,
        detail: row.detail,
        topicId: row.topic_id,
        next: BigInt(row.next_offset),
        foundTopicId: row.found_topic_id,
        asked: row.asked,
      },
    ]),
  )
}

/**
 * Notes a stop where the offset stands now. False, and nothing is noted, when it stands in another
 * topic by now, or before where the fault was seen: somebody has repaired it. One that is noted
 * already stays as it is; of another topic it is a new one, which nobody has asked to repair.
 */
export async function putStop(
  database: Queryable,
  { projection, topic, partition }: Place,
  { code, detail, offset, topicId, foundTopicId }: LogStop & Pick<Stop, 'topicId' | 'foundTopicId'>,
): Promise<boolean> {
  const { rows } = await database.query<{ stands: boolean }>({
    name: 'put-stop',
    text: `with stored as (
        select projection, topic, partition, topic_id, next_offset from read.offsets
        where projection = $1 and topic = $2 and partition = $3
          and topic_id = $4 and next_offset >= $5 for update
      ), put as (
        insert into read.stopped_partitions as s
          (projection, topic, partition, topic_id, next_offset, found_topic_id, code, detail)
        select stored.*, $6, $7, $8 from stored
        on conflict (projection, topic, partition) do update set
          topic_id = excluded.topic_id, next_offset = excluded.next_offset,
          found_topic_id = excluded.found_topic_id, code = excluded.code,
          detail = excluded.detail, since = excluded.since, asked_at = null
        where (s.topic_id, s.next_offset, s.found_topic_id)
          is distinct from (excluded.topic_id, excluded.next_offset, excluded.found_topic_id))
      select exists (select from stored) as stands`,
    values: [projection, topic, partition, topicId, offset, foundTopicId, code, detail],
  })
  return rows[0]!.stands
}

/** A person asks for the repair. Gives the row as it was and as it is; undefined without a stop. */
export async function askForRepair(
  transaction: Transaction,
  { projection, topic, partition }: Place,
): Promise<{ code: string; before: unknown; after: unknown } | undefined> {
  const { rows } = await transaction.query<{ code: string; before: unknown; after: unknown }>(
    `with held as (
        select s.*, to_jsonb(s) as before from read.stopped_partitions s
        join read.offsets using (projection, topic, partition, topic_id, next_offset)
        where projection = $1 and topic = $2 and partition = $3 for update of offsets)
      update read.stopped_partitions s set asked_at = clock_timestamp() from held
        where (s.projection, s.topic, s.partition) = (held.projection, held.topic, held.partition)
        returning s.code, held.before, to_jsonb(s) as after`,
    [projection, topic, partition],
  )
  return rows[0]
}

/** Lets a partition go on at an offset of the topic that was found: its row is locked by now. */
export async function endStop(
  transaction: Transaction,
  { projection, topic, partition }: Place,
  { topicId, next }: { topicId: string; next: bigint },
): Promise<void> {
  await transaction.query(
    `update read.offsets set topic_id = $4, next_offset = $5
      where projection = $1 and topic = $2 and partition = $3`,
    [projection, topic, partition, topicId, next],
  )
  await transaction.query(
    `delete from read.stopped_partitions where projection = $1 and topic = $2 and partition = $3`,
    [projection, topic, partition],
  )
}
