import type { ConsumedBatch } from 'kafka/consumer'
import type { Pool } from 'pg'
import { type PipeRecord, readRecord, RecordUnreadable } from './event-record.ts'
import { lockOffset, noteHeartbeat, type Place, saveOffset, type StoredOffset } from './offsets.ts'
import type { ProjectedEvent, Projection } from './projection.ts'
import { refusalReason, type StopReason } from './stop-reason.ts'
import { inTransaction } from './transaction.ts'

// One chunk of records, one transaction: the offset row is locked first and must stand where the
// chunk begins, so that of two owners (one paused, long replaced, and now awake) only one applies.
// Everything before the first record that cannot be applied is applied; the offset stays at it.

export type ChunkOutcome =
  /** Another owner was here, or the topic is another: nothing was applied. */
  | { kind: 'moved'; stored: StoredOffset }
  | {
      kind: 'applied'
      next: bigint
      applied: number
      duplicates: number
      heartbeats: number
      stop?: StopReason
    }

export type Chunk = Pick<ConsumedBatch, 'topic' | 'partition' | 'fetchOffset' | 'records'>

const deadlineMs = 30_000

/** Applies a chunk and moves the offset, or neither. Throws what Postgres throws. */
export function applyChunk(
  { pool, projection, topicId }: { pool: Pool; projection: Projection; topicId: string },
  chunk: Chunk,
): Promise<ChunkOutcome> {
  const { topic, partition, fetchOffset } = chunk
  const place: Place = { projection: projection.name, topic, partition }
  const readable = readUntilUnreadable(chunk)
  return inTransaction(pool, deadlineMs, async (transaction) => {
    const stored = await lockOffset(transaction, place, topicId)
    if (stored.next !== fetchOffset || stored.topicId !== topicId) return { kind: 'moved', stored }
    const { events, offsets } = readable
    const { refusal, ...counts } = await projection.apply(transaction, events)
    const refusedAt = refusal === undefined ? undefined : offsets[refusal.index]!
    const next = refusedAt ?? readable.next
    const heartbeats = readable.heartbeats.filter((heartbeat) => heartbeat.offset < next)
    const newest = heartbeats.at(-1)
    if (newest !== undefined) await noteHeartbeat(transaction, place, newest.occurredAt)
    await saveOffset(transaction, place, next)
    const stop = refusal === undefined ? readable.stop : refusalReason(refusal, next)
    const outcome = { kind: 'applied', next, ...counts, heartbeats: heartbeats.length } as const
    return stop === undefined ? outcome : { ...outcome, stop }
  })
}

type Readable = {
  events: ProjectedEvent[]
  /** Of `events`, one each. */
  offsets: bigint[]
  heartbeats: { offset: bigint; occurredAt: string }[]
  /** The first offset not read. */
  next: bigint
  stop?: StopReason
}

/** Our topics' offsets have no holes: one says that records were deleted before they were read. */
function readUntilUnreadable({ fetchOffset, records }: Chunk): Readable {
  const read: Readable = { events: [], offsets: [], heartbeats: [], next: fetchOffset }
  for (const record of records) {
    const { offset } = record
    if (offset !== read.next) {
      const detail = `records ${read.next} to ${offset - 1n} were deleted unread`
      return { ...read, stop: { code: 'records_missing', detail, offset: read.next } }
    }
    let content: PipeRecord
    try {
      content = readRecord(record)
    } catch (error) {
      if (!(error instanceof RecordUnreadable)) throw error
      const detail = `the record at ${offset} cannot be read: ${error.message}`
      return { ...read, stop: { code: error.code, detail, offset } }
    }
    if (content.kind === 'heartbeat')
      read.heartbeats.push({ offset, occurredAt: content.occurredAt })
    else {
      read.events.push(content.event)
      read.offsets.push(offset)
    }
    read.next = offset + 1n
  }
  return read
}
