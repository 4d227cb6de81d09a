import { type KafkaRecord, RecordRefused } from 'kafka/producer'
import { RelayError } from './errors.ts'
import { encode, type OutboxRow } from './wire.ts'

// An event that Kafka refuses for itself parks its aggregate: copies of it, and of every later event of
// that aggregate, go to outbox.parked, and everything else goes on. What keeps the order:
//   1. which rows are held is decided when they are sent, one sending at a time, and never when they
//      are read: a batch that was read before the refusal has later events of the aggregate;
//   2. copies are written with the progress that covers their rows, in one statement under the epoch:
//      a leader that dies before that leaves the rows to be read, refused and parked again;
//   3. a release (`parked-release.ts`) is one of the sendings. It sends the copies that are saved, in
//      their order, and removes what Kafka confirmed; whatever arrives meanwhile is held behind them;
//   4. the aggregate is parked no more by a statement that finds no copy of it left, after everything
//      held was saved, and before anything else is sent. Only then a row of it goes straight to Kafka.
// Only the leader parks and unparks, so what it has in memory is what the table will have once it has
// saved. Kafka or PostgreSQL being away is no refusal: it is waited for, and parks nothing.

export type Aggregate = { aggregateType: string; aggregateId: string }

/** An event that Kafka will not have. */
export type Refused = {
  row: OutboxRow
  /** Kafka's name for why, such as MESSAGE_TOO_LARGE. */
  reason: string
  recordBytes: number
}

/** What is to be saved with the progress that covers it. */
export type Held = {
  /** In each aggregate's order. */
  rows: readonly OutboxRow[]
  /** The events among them that parked their aggregates. */
  refused: readonly Refused[]
}

export const nothingHeld: Held = { rows: [], refused: [] }

export function aggregateOf(row: OutboxRow): Aggregate {
  return { aggregateType: row[2], aggregateId: row[3] }
}

/**
 * With so many parked nothing new is published until some are released: it is no poison any more, but
 * something that is wrong for all, and their names are kept in memory. One batch may bring some more.
 */
const parkedLimit = 100_000

/** The aggregates that are parked, as the leader knows them. */
export class ParkedAggregates {
  readonly #keys: Set<string>

  constructor(parked: Iterable<Aggregate> = []) {
    this.#keys = new Set([...parked].map(keyOf))
  }

  get size(): number {
    return this.#keys.size
  }

  get full(): boolean {
    return this.#keys.size >= parkedLimit
  }

  has(aggregate: Aggregate): boolean {
    return this.#keys.has(keyOf(aggregate))
  }

  add(aggregate: Aggregate): void {
    this.#keys.add(keyOf(aggregate))
  }

  delete(aggregate: Aggregate): void {
    this.#keys.delete(keyOf(aggregate))
  }
}

/** No text of PostgreSQL has a NUL in it. */
const keyOf = ({ aggregateType, aggregateId }: Aggregate) => `${aggregateType}\0${aggregateId}`

export type Send = (records: readonly KafkaRecord[]) => Promise<void>

/**
 * Sends rows in their order, but those of parked aggregates; a row that is refused parks its own. All
 * that is not held is then confirmed. Throws `parking_full`, before it sends anything, and what is no
 * refusal; the caller's leadership is over then, and nothing of this may be saved.
 */
export async function sendOrHold(
  rows: readonly OutboxRow[],
  { send, parked }: { send: Send; parked: ParkedAggregates },
): Promise<{ sent: readonly OutboxRow[]; held: Held }> {
  if (parked.full) throw parkingFull()
  const sent: OutboxRow[] = []
  const held = { rows: [] as OutboxRow[], refused: [] as Refused[] }
  const isParked = (row: OutboxRow) => parked.has(aggregateOf(row))
  for (let left = rows; ;) {
    let allowed = left
    if (parked.size > 0) {
      allowed = left.filter((row) => !isParked(row))
      held.rows.push(...left.filter(isParked))
    }
    const refused = await refusedOf(allowed, send)
    if (refused === undefined) return { sent: [...sent, ...allowed], held }
    const at = allowed.indexOf(refused.row)
    sent.push(...allowed.slice(0, at))
    parked.add(aggregateOf(refused.row))
    held.refused.push(refused)
    held.rows.push(refused.row)
    left = allowed.slice(at + 1)
  }
}

/** Sends rows in their order. What is refused is returned: all before it is confirmed, nothing after. */
export async function refusedOf(
  rows: readonly OutboxRow[],
  send: Send,
): Promise<Refused | undefined> {
  if (rows.length === 0) return undefined
  try {
    await send(rows.map(encode))
    return undefined
  } catch (error) {
    if (!(error instanceof RecordRefused)) throw error
    const row = rows[error.index]
    if (row === undefined) throw error
    return { row, reason: error.reason, recordBytes: error.sizeBytes }
  }
}

/** Runs what it is given one at a time, in the order in which it was given. */
export function oneAtATime() {
  let last: Promise<unknown> = Promise.resolve()
  return <T>(work: () => Promise<T>): Promise<T> => {
    const mine = last.then(work)
    last = mine.catch(() => {})
    return mine
  }
}
export type OneAtATime = ReturnType<typeof oneAtATime>

/** What a refusal says to whoever reads the log: never the payload. */
export function refusalText({ row, reason, recordBytes }: Refused): string {
  const [position, id, aggregateType, aggregateId, version, type] = row
  return (
    `Kafka refuses the event at position ${position} (${reason}): id ${id}, ${type}, ` +
    `${aggregateType} ${aggregateId} version ${version}, ${recordBytes} bytes as a record. ` +
    'It and all later events of that aggregate wait in outbox.parked; everything else goes on. ' +
    'If it is too large, raise max.message.bytes of the topic above its size, then ask for a retry'
  )
}

export function parkingFull(): RelayError {
  return new RelayError(
    'parking_full',
    `${parkedLimit} aggregates are parked: nothing new is published until some are released. Mend ` +
      'what Kafka refuses them for (GET /relay/parked), then ask for POST /relay/parked/retry',
  )
}

/** What a connector would pass over, since it knows nothing of what waits. */
export function aggregatesParked(count: number): RelayError {
  return new RelayError(
    'aggregates_parked',
    `aggregates_parked: ${count} parked aggregates, whose later events a connector would publish ` +
      'before those that wait: retry or skip them first (GET /relay/parked)',
  )
}
