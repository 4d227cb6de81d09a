import type { KafkaRecord } from 'kafka/producer'

// The wire contract, the same bytes in every mode of the relay:
//
//   topic   = aggregatetype "-events"
//   key     = aggregateid                        UTF-8; Kafka's default murmur2 picks the partition
//   value   = payload                            the column's own text, never parsed and rewritten
//   headers = id                                 uuid of the event
//             ce_type                            such as FundsDeposited.v1
//             ce_sequence                        aggregateversion, decimal
//             ce_time                            2026-11-21T08:00:00.120000Z: UTC, six digits, Z
//             ce_source                          urn:sluice:command-api
//             ce_specversion                     1.0
//             ce_id                              = id
//             ce_correlationid
//             ce_causationid
//             traceparent                        W3C Trace Context
//             content-type                       application/json
//
// Eleven headers in this order (CloudEvents, binary mode); none is ever null, nor is the payload.
// The record's timestamp is not part of the contract.

/** A row of outbox.events, each column as PostgreSQL's text; `cursor.ts` selects them in this order. */
export type OutboxRow = readonly [
  position: string,
  id: string,
  aggregateType: string,
  aggregateId: string,
  aggregateVersion: string,
  type: string,
  time: string,
  source: string,
  specVersion: string,
  correlationId: string,
  causationId: string,
  traceparent: string,
  payload: string,
]

export function topicOf(aggregateType: string): string {
  return `${aggregateType}-events`
}

/** The record of a row. */
export function encode(row: OutboxRow): KafkaRecord {
  return {
    topic: topicOf(row[2]),
    key: row[3],
    value: row[12],
    headers: [
      ['id', row[1]],
      ['ce_type', row[5]],
      ['ce_sequence', row[4]],
      ['ce_time', row[6]],
      ['ce_source', row[7]],
      ['ce_specversion', row[8]],
      ['ce_id', row[1]],
      ['ce_correlationid', row[9]],
      ['ce_causationid', row[10]],
      ['traceparent', row[11]],
      ['content-type', 'application/json'],
    ],
  }
}

/** What a record says, without its payload parsed. */
export type Envelope = {
  id: string
  /** Known when the topic was given. */
  aggregateType?: string
  aggregateId: string
  aggregateVersion: bigint
  /** With its version: `FundsDeposited.v1`. */
  type: string
  /** RFC 3339, UTC, six fractional digits. */
  time: string
  source: string
  correlationId: string
  causationId: string
  traceparent: string
  /** JSON text, as it was stored. */
  payload: string
}

type HeaderValue = Buffer | string | (Buffer | string)[] | undefined

/** A record as a consumer has it. */
export type WireRecord = {
  topic?: string
  key: Buffer | string | null
  value: Buffer | string | null
  headers: Readonly<Record<string, HeaderValue>>
}

/** A record that is not as the contract says; `part` is the header, or `key` or `value`. */
export class MalformedRecord extends Error {
  readonly code = 'malformed_record'
  readonly part: string

  constructor(part: string, problem: string) {
    super(`not a record of the outbox: ${part} ${problem}`)
    this.name = 'MalformedRecord'
    this.part = part
  }
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const sequence = /^[1-9]\d{0,18}$/
const time = /^\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/
const topicPattern = /^(.+)-events$/

/** The inverse of `encode`. Throws MalformedRecord (`malformed_record`). */
export function decode(record: WireRecord): Envelope {
  const { headers } = record
  const id = header(headers, 'id')
  if (!uuid.test(id)) throw new MalformedRecord('id', 'is not a uuid')
  if (header(headers, 'ce_id') !== id) throw new MalformedRecord('ce_id', 'differs from id')
  if (header(headers, 'ce_specversion') !== '1.0') {
    throw new MalformedRecord('ce_specversion', 'is not 1.0')
  }
  if (header(headers, 'content-type') !== 'application/json') {
    throw new MalformedRecord('content-type', 'is not application/json')
  }
  const version = header(headers, 'ce_sequence')
  if (!sequence.test(version)) throw new MalformedRecord('ce_sequence', 'is not a version')
  const occurred = header(headers, 'ce_time')
  if (!time.test(occurred)) throw new MalformedRecord('ce_time', 'is not UTC with six digits')
  const envelope: Envelope = {
    id,
    aggregateId: text('key', record.key),
    aggregateVersion: BigInt(version),
    type: header(headers, 'ce_type'),
    time: occurred,
    source: header(headers, 'ce_source'),
    correlationId: header(headers, 'ce_correlationid'),
    causationId: header(headers, 'ce_causationid'),
    traceparent: header(headers, 'traceparent'),
    payload: text('value', record.value),
  }
  if (record.topic !== undefined) {
    const aggregateType = topicPattern.exec(record.topic)?.[1]
    if (aggregateType === undefined) throw new MalformedRecord('topic', 'does not end in -events')
    envelope.aggregateType = aggregateType
  }
  return envelope
}

function header(headers: WireRecord['headers'], name: string): string {
  const value = headers[name]
  if (Array.isArray(value)) throw new MalformedRecord(name, 'is there more than once')
  return text(name, value)
}

function text(part: string, value: Buffer | string | null | undefined): string {
  if (value === null || value === undefined) throw new MalformedRecord(part, 'is missing')
  const found = typeof value === 'string' ? value : value.toString('utf8')
  if (found === '') throw new MalformedRecord(part, 'is empty')
  return found
}
