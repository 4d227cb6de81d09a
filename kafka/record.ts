import { KafkaError } from './errors.ts'

/** One record to publish. Header names are unique within a record; their order is kept. */
export type KafkaRecord = {
  topic: string
  key: string
  value: string | Buffer
  headers: ReadonlyArray<readonly [name: string, value: string]>
}

/**
 * Kafka will not have this record, now or later: too large, or found invalid. Records before it in
 * the batch may have been published; without it, the batch may be published again.
 */
export class RecordRefused extends KafkaError {
  declare readonly code: 'record_refused'
  /** Where the record stands in the batch given to `publish`. */
  readonly index: number
  /** Kafka's name for the refusal, such as MESSAGE_TOO_LARGE. */
  readonly reason: string
  readonly sizeBytes: number

  constructor(refused: { index: number; record: KafkaRecord; reason: string }, cause?: unknown) {
    const { index, record, reason } = refused
    const sizeBytes = recordBytes(record)
    super(
      'record_refused',
      `Kafka refuses a record of ${sizeBytes} bytes for ${record.topic}: ${reason}`,
      {
        cause,
      },
    )
    this.name = 'RecordRefused'
    this.index = index
    this.reason = reason
    this.sizeBytes = sizeBytes
  }
}

// A record's own lengths, deltas and attributes, and the length of each header's two parts, as
// varints: never more than this.
const recordFrameBytes = 32
const headerFrameBytes = 8

/** An upper bound, within a few dozen bytes, of what a record adds to a record batch. */
export function recordBytes({ key, value, headers }: KafkaRecord): number {
  let bytes = recordFrameBytes + Buffer.byteLength(key) + Buffer.byteLength(value)
  for (const [name, text] of headers) {
    bytes += headerFrameBytes + Buffer.byteLength(name) + Buffer.byteLength(text)
  }
  return bytes
}

// Counting the bytes of a longer text costs less than room for three times as many.
const shortUnits = 1_000

/** What a record takes at most, found quickly: no UTF-16 unit takes more than three bytes. */
export function recordBytesAtMost({ key, value, headers }: KafkaRecord): number {
  let bytes = recordFrameBytes + headers.length * headerFrameBytes + textBytesAtMost(key)
  bytes += typeof value === 'string' ? textBytesAtMost(value) : value.length
  for (let n = 0; n < headers.length; n += 1) {
    const header = headers[n]!
    bytes += textBytesAtMost(header[0]) + textBytesAtMost(header[1])
  }
  return bytes
}

function textBytesAtMost(text: string): number {
  return text.length < shortUnits ? 3 * text.length : Buffer.byteLength(text)
}

/**
 * Cuts a batch into runs of records that follow each other, each run within `limitBytes` unless one
 * record alone is larger. Gives where each run ends; the next begins there.
 */
export function requestEnds(records: readonly KafkaRecord[], limitBytes: number): number[] {
  const ends: number[] = []
  let bytes = 0
  records.forEach((record, index) => {
    const size = recordBytes(record)
    if (bytes > 0 && bytes + size > limitBytes) {
      ends.push(index)
      bytes = 0
    }
    bytes += size
  })
  if (records.length > 0) ends.push(records.length)
  return ends
}
