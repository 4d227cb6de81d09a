import type { ConsumedBatch } from 'kafka/consumer'
import type { Pool } from 'pg'
import { databaseFault } from './database-fault.ts'
import { claimOf, type PipeRecord, readRecord, RecordUnreadable } from './event-record.ts'
import { lockOffset, noteHeartbeat, type Place, saveOffset, type StoredOffset } from './offsets.ts'
import type { Projection } from './projection.ts'
import { applyBisecting } from './quarantine/bisection.ts'
import { lockEntries, type NewEntry, putEntries, raiseHighest } from './quarantine/entries.ts'
import {
  entryOfRefusal,
  type PlacedEvent,
  setApart,
  type Unreadable,
} from './quarantine/set-apart.ts'
import { putStop } from './partition-repair/stops.ts'
import type { LogStop } from './stop-reason.ts'
import { inTransaction, type Transaction } from './transaction.ts'

// One chunk of records, one transaction: the offset row is locked first and must stand where the
// chunk begins, so that of two owners (one paused, long replaced, and now awake) only one applies.
// An event that cannot be applied puts its account into quarantine in the same transaction; the
// offset moves over it, and everything else is applied.

export type ChunkOutcome =
  /** Another owner was here, or the topic is another: nothing was applied. */
  | { kind: 'moved'; stored: StoredOffset }
  | {
      kind: 'applied'
      next: bigint
      applied: number
      duplicates: number
      heartbeats: number
      /** Events not applied, because their account is in quarantine. */
      held: number
      /** Accounts that came into quarantine. */
      quarantined: readonly NewEntry[]
      stop?: LogStop
    }

export type Chunk = Pick<ConsumedBatch, 'topic' | 'partition' | 'fetchOffset' | 'records'>

type ChunkSettings = { pool: Pool; projection: Projection; topicId: string }
type Apply = Projection['apply']

const deadlineMs = 30_000

/** Applies a chunk and moves the offset, or neither. Throws what Postgres throws. */
export async function applyChunk(settings: ChunkSettings, chunk: Chunk): Promise<ChunkOutcome> {
  const { projection } = settings
  const content = readChunk(chunk)
  try {
    return await applyContent(settings, chunk, content, projection.apply)
  } catch (error) {
    if (databaseFault(error) !== 'data') throw error
    const bisecting: Apply = (transaction, events) =>
      applyBisecting(projection, transaction, events, 'log')
    return applyContent(settings, chunk, content, bisecting)
  }
}

function applyContent(
  { pool, projection, topicId }: ChunkSettings,
  { topic, partition, fetchOffset }: Chunk,
  content: Content,
  apply: Apply,
): Promise<ChunkOutcome> {
  const place: Place = { projection: projection.name, topic, partition }
  return inTransaction(pool, deadlineMs, async (transaction) => {
    const { quarantine, ...stored } = await lockOffset(transaction, place, topicId)
    if (stored.next !== fetchOffset || stored.topicId !== topicId) return { kind: 'moved', stored }
    const { next, heartbeats, stop } = content
    const heads = await headsOfUnreadable(transaction, projection, content.unreadable)
    const quarantined = quarantine
      ? await lockEntries(transaction, projection.name, accountsOf(content))
      : new Set<string>()
    const apart = setApart(content, { partition, quarantined, heads })
    const done = await apply(
      transaction,
      apart.events.map(({ event }) => event),
      'log',
    )
    const refused = done.refusals.map((refusal) =>
      entryOfRefusal(refusal, apart.events[refusal.index]!.offset),
    )
    const entries = [...apart.entries.values(), ...refused]
    await raiseHighest(transaction, projection.name, apart.raised)
    await putEntries(transaction, place, entries)
    const newest = heartbeats.at(-1)
    if (newest !== undefined) noteHeartbeat(transaction, place, newest)
    saveOffset(transaction, place, content)
    if (stop !== undefined) {
      await putStop(transaction, place, { ...stop, topicId, foundTopicId: topicId })
    }
    return {
      kind: 'applied',
      next,
      applied: done.applied,
      duplicates: done.duplicates + apart.duplicates,
      heartbeats: heartbeats.length,
      held: apart.held + done.refusals.reduce((sum, { held }) => sum + held, 0),
      quarantined: entries,
      ...(stop === undefined ? {} : { stop }),
    }
  })
}

function headsOfUnreadable(
  transaction: Transaction,
  projection: Projection,
  unreadable: readonly Unreadable[],
): ReturnType<Projection['heads']> {
  const accounts = unreadable.flatMap(({ account }) => account ?? [])
  return accounts.length === 0
    ? Promise.resolve(new Map())
    : projection.heads(transaction, [...new Set(accounts)])
}

function accountsOf({ events, unreadable }: Content): string[] {
  const named = unreadable.flatMap(({ account }) => account ?? [])
  return [...new Set([...events.map(({ event }) => event.account), ...named])]
}

type Content = {
  events: PlacedEvent[]
  unreadable: Unreadable[]
  /** When each heartbeat was written. */
  heartbeats: string[]
  /** The first offset not read. */
  next: bigint
  /** When the last record that can be read was written. */
  throughAt?: string
  stop?: LogStop
}

/** Our topics' offsets have no holes: one says that records were deleted before they were read. */
function readChunk({ fetchOffset, records }: Chunk): Content {
  const read: Content = { events: [], unreadable: [], heartbeats: [], next: fetchOffset }
  for (const record of records) {
    const { offset } = record
    if (offset !== read.next) {
      const detail = `records ${read.next} to ${offset - 1n} were deleted unread`
      return { ...read, stop: { code: 'records_missing', detail, offset: read.next } }
    }
    read.next = offset + 1n
    let content: PipeRecord
    try {
      content = readRecord(record)
    } catch (error) {
      if (!(error instanceof RecordUnreadable)) throw error
      const { code, message } = error
      const detail = `the record at ${offset} cannot be read: ${printable(message)}`
      read.unreadable.push({ offset, ...claimOf(record), code, detail })
      continue
    }
    if (content.kind === 'heartbeat') {
      read.heartbeats.push(content.occurredAt)
      read.throughAt = content.occurredAt
    } else {
      read.events.push({ offset, event: content.event })
      read.throughAt = content.event.event.at
    }
  }
  return read
}

/** A record's own words, such as its type, may hold what neither a log nor Postgres takes. */
function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 300)
}
