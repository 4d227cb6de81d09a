import { EventUnreadable, heartbeatIds, heartbeatType, parseAccountEvent } from 'command-api/events'
import type { ConsumedRecord } from 'kafka/consumer'
import { decode, type Envelope, MalformedRecord } from 'outbox-relay/wire'
import type { ProjectedEvent } from './projection.ts'

/** A record that this version of the code cannot read: its partition must stop, not skip it. */
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

/** The envelope and the payload each say which account and version: they must agree. */
function readEvent({ id, aggregateId, aggregateVersion, type, time, payload }: Envelope) {
  const event = parseEvent(type, time, payload)
  const version = Number(aggregateVersion)
  if (event.payload.accountId !== aggregateId || event.payload.after.version !== version) {
    throw malformed(`${type} is of another account or version than its envelope`)
  }
  if ((version === 1) !== (type === 'AccountOpened.v1')) {
    throw malformed(`${type} as version ${version}: an account begins by being opened, once`)
  }
  return { account: aggregateId, version, id, event } satisfies ProjectedEvent
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
