import { crc32c } from './crc32c.ts'
import { KafkaError } from './errors.ts'
import { batchHeaderBytes, type BatchIdentity } from './record-batch.ts'
import { readVarint } from './varint.ts'

type DecodedRecord = {
  offsetDelta: number
  timestampDeltaMs: number
  key: Buffer | null
  value: Buffer | null
  headers: (readonly [name: string, value: Buffer | null])[]
}

export type DecodedBatch = BatchIdentity & {
  baseOffset: bigint
  attributes: number
  maxTimestampMs: number
  records: DecodedRecord[]
  /** Bytes read; a further batch may follow. */
  sizeBytes: number
}

/**
 * Reads the record batch at the beginning of `bytes`; its grammar is in record-batch.ts. Throws
 * `record_batch_malformed` for what is cut short, damaged, of another format, or compressed.
 */
export function decodeRecordBatch(bytes: Buffer): DecodedBatch {
  if (bytes.length < batchHeaderBytes) throw malformed('it is shorter than its header')
  const sizeBytes = bytes.readInt32BE(8) + 12
  if (sizeBytes < batchHeaderBytes || sizeBytes > bytes.length) throw malformed('it is cut short')
  if (bytes.readInt8(16) !== 2) throw malformed(`its format is ${bytes.readInt8(16)}, not 2`)
  if (bytes.readUInt32BE(17) !== crc32c(bytes, 21, sizeBytes)) throw malformed('its checksum')
  const attributes = bytes.readInt16BE(21)
  if ((attributes & 7) !== 0) throw malformed('it is compressed')
  const count = bytes.readInt32BE(57)
  if (bytes.readInt32BE(23) !== count - 1) throw malformed('lastOffsetDelta and count differ')
  return {
    baseOffset: bytes.readBigInt64BE(0),
    attributes,
    timestampMs: Number(bytes.readBigInt64BE(27)),
    maxTimestampMs: Number(bytes.readBigInt64BE(35)),
    producerId: bytes.readBigInt64BE(43),
    producerEpoch: bytes.readInt16BE(51),
    firstSequence: bytes.readInt32BE(53),
    records: readRecords(bytes.subarray(0, sizeBytes), count),
    sizeBytes,
  }
}

function readRecords(bytes: Buffer, count: number): DecodedRecord[] {
  const cursor = new Cursor(bytes, batchHeaderBytes)
  const records: DecodedRecord[] = []
  for (let n = 0; n < count; n += 1) {
    const length = cursor.number()
    const end = cursor.at + length
    cursor.byte()
    records.push({
      timestampDeltaMs: cursor.number(),
      offsetDelta: cursor.number(),
      key: cursor.bytes(),
      value: cursor.bytes(),
      headers: cursor.headers(),
    })
    if (cursor.at !== end) throw malformed(`record ${n} is not as long as it says`)
  }
  if (cursor.at !== bytes.length) throw malformed('bytes after its last record')
  return records
}

class Cursor {
  readonly #bytes: Buffer
  at: number

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes
    this.at = at
  }

  byte(): number {
    const byte = this.#bytes[this.at]
    if (byte === undefined) throw malformed('it ends within a record')
    this.at += 1
    return byte
  }

  number(): number {
    try {
      const { value, next } = readVarint(this.#bytes, this.at)
      this.at = next
      return Number(value)
    } catch (error) {
      throw malformed('it ends within a number', error)
    }
  }

  /** Null where the length is -1, as Java writes a null key or value. */
  bytes(): Buffer | null {
    const length = this.number()
    if (length === -1) return null
    if (length < 0 || this.at + length > this.#bytes.length) throw malformed('a length too large')
    this.at += length
    return this.#bytes.subarray(this.at - length, this.at)
  }

  headers(): DecodedRecord['headers'] {
    const headers: DecodedRecord['headers'] = []
    for (let left = this.number(); left > 0; left -= 1) {
      headers.push([String(this.bytes()), this.bytes()])
    }
    return headers
  }
}

function malformed(why: string, cause?: unknown): KafkaError {
  return new KafkaError('record_batch_malformed', `not a record batch: ${why}`, { cause })
}
