import { EventUnreadable, heartbeatIds, heartbeatType, parseAccountEvent } from 'command-api/events'
import type { ConsumedRecord } from 'kafka/consumer'
import { decode, type Envelope, MalformedRecord } from 'outbox-relay/wire'
import type { ProjectedEvent } from './projection.ts'

/** A record that this version of the code cannot read: its account must wait, not pass over it. */
export class RecordUnreadable extends Error {
  readonly code: 'record_malformed' | EventUnreadable['code']

  constructor(code: RecordUnreadable['code'], message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'RecordUnreadable'
    this.code = code
  }
}

export type PipeRecord =
  | { kind: 'heartbeat'; occurredAt: string }
  | { kind: 'event'; event: ProjectedEvent }

const reservedIds = new Set(heartbeatIds)

/** What a record of account-events says. Throws RecordUnreadable. */
export function readRecord(record: ConsumedRecord): PipeRecord {
  const envelope = decodeRecord(record)
  if (envelope.type === heartbeatType) {
    if (reservedIds.has(envelope.aggregateId)) {
      return { kind: 'heartbeat', occurredAt: envelope.time }
    }
    throw malformed(`a heartbeat of ${envelope.aggregateId}, which is no reserved id`)
  }
  return { kind: 'event', event: readEvent(envelope) }
}

function decodeRecord({ key, value, headers }: ConsumedRecord): Envelope {
  try {
    return decode({ key, value, headers })
  } catch (error) {
    if (error instanceof MalformedRecord) throw malformed(error.message, error)
    throw error
  }
}

function readEvent({ id, aggregateId, aggregateVersion, type, time, payload }: Envelope) {
  const version = Number(aggregateVersion)
  return readStoredEvent({ account: aggregateId, version, id, type, at: time, payload })
}

/** An event as the command side stored it, by whichever way it came. `payload` is JSON text. */
export type StoredEvent = {
  account: string
  version: number
  id: string
  type: string
  at: string
  payload: string
}

/**
 * The event that a stored one is. Envelope and payload each say which account and version: they
 * must agree. Throws RecordUnreadable.
 */
export function readStoredEvent(stored: StoredEvent): ProjectedEvent {
  const { account, version, id, type } = stored
  const event = parseEvent(type, stored.at, stored.payload)
  if (event.payload.accountId !== account || event.payload.after.version !== version) {
    throw malformed(`${type} is of another account or version than its envelope`)
  }
  if ((version === 1) !== (event.type === 'AccountOpened.v1')) {
    throw malformed(`${type} as version ${version}: an account begins by being opened, once`)
  }
  return { account, version, id, event }
}

const accountId = /^[A-Za-z0-9_-]{1,64}$/

/** Whether a record's key can be an account's id at all. */
export function isAccountId(text: string): boolean {
  return accountId.test(text)
}

/** Whose an unreadable record is and as which version, as far as its key and header say so. */
export function claimOf({ key, headers }: ConsumedRecord): { account?: string; version?: number } {
  const account = key === null ? '' : key.toString()
  const { ce_sequence: sequence } = headers
  const version = Buffer.isBuffer(sequence) ? Number(sequence.toString()) : NaN
  return {
    ...(isAccountId(account) ? { account } : {}),
    ...(Number.isSafeInteger(version) && version > 0 ? { version } : {}),
  }
}

function parseEvent(type: string, time: string, payload: string) {
  try {
    return parseAccountEvent(type, time, payload)
  } catch (error) {
    if (error instanceof EventUnreadable) {
      throw new RecordUnreadable(error.code, error.message, error)
    }
    throw error
  }
}

function malformed(message: string, cause?: unknown): RecordUnreadable {
  return new RecordUnreadable('record_malformed', message, cause)
}
