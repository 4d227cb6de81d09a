import assert from 'node:assert'
import { crc32c } from './crc32c.ts'
import { type KafkaRecord, recordBytesAtMost } from './record.ts'
import { varintBytes, writeVarint } from './varint.ts'

// Kafka's record batch, format 2: what Produce carries for one partition, and what the broker appends
// to its log as it is. Integers are big-endian; `varint` is in varint.ts. `record-batch-decoder.ts`
// reads the same grammar.
//
//    0  baseOffset            int64    0: the broker's to fill in, outside the checksum
//    8  batchLength           int32    bytes after this field
//   12  partitionLeaderEpoch  int32    -1: the broker's to fill in, outside the checksum
//   16  magic                 int8     2
//   17  crc                   uint32   CRC-32C of everything from here to the end
//   21  attributes            int16    0: no compression, time of creation, no transaction
//   23  lastOffsetDelta       int32    count - 1
//   27  baseTimestamp         int64    ms since 1970
//   35  maxTimestamp          int64
//   43  producerId            int64
//   51  producerEpoch         int16
//   53  baseSequence          int32    the sequence number of the first record
//   57  count                 int32
//   61  records, each:
//         length              varint   bytes after this field
//         attributes          int8     0
//         timestampDelta      varint   0: all records of a batch have its time
//         offsetDelta         varint   0, 1, 2 ...
//         key                 varint   length, then bytes
//         value               varint   length, then bytes
//         headers             varint   how many, then each: name and value, as key and value

export const batchHeaderBytes = 61

export type BatchIdentity = {
  producerId: bigint
  producerEpoch: number
  /** Of the first record; the others follow on. */
  firstSequence: number
  timestampMs: number
}

const firstCapacityBytes = 16_384
// What stays allocated from one request to the next. A larger buffer was for a rare large record.
const keptCapacityBytes = 1_048_576

/**
 * One partition's records, written into a buffer that is used again and again: `append` each record,
 * `finish` to have the bytes, `clear` when nobody reads them any more.
 */
export class RecordBatch {
  #bytes = Buffer.allocUnsafe(0)
  #end = batchHeaderBytes
  #count = 0
  // Records of a topic are about as long as each other, so their lengths take as many bytes.
  #lengthBytes = 2

  get count(): number {
    return this.#count
  }

  /** What is allocated now. */
  get capacityBytes(): number {
    return this.#bytes.length
  }

  append(record: KafkaRecord): void {
    const { key, value, headers } = record
    this.#makeRoom(recordBytesAtMost(record))
    const bytes = this.#bytes
    const start = this.#end
    const body = start + this.#lengthBytes
    bytes[body] = 0
    bytes[body + 1] = 0
    let at = writeVarint(bytes, body + 2, this.#count)
    at = writeText(bytes, at, key)
    at = typeof value === 'string' ? writeText(bytes, at, value) : writeBytes(bytes, at, value)
    at = writeVarint(bytes, at, headers.length)
    for (let n = 0; n < headers.length; n += 1) {
      const header = headers[n]!
      at = writeText(bytes, writeText(bytes, at, header[0]), header[1])
    }
    const length = at - body
    const lengthBytes = varintBytes(length)
    if (lengthBytes !== this.#lengthBytes) {
      bytes.copyWithin(start + lengthBytes, body, at)
      this.#lengthBytes = lengthBytes
    }
    writeVarint(bytes, start, length)
    this.#end = start + lengthBytes + length
    this.#count += 1
  }

  /** The batch's bytes: a view of the buffer, valid until `clear` or the next `append`. */
  finish({ producerId, producerEpoch, firstSequence, timestampMs }: BatchIdentity): Buffer {
    assert(this.#count > 0, 'a batch without records')
    const bytes = this.#bytes
    const timestamp = BigInt(timestampMs)
    bytes.writeBigInt64BE(0n, 0)
    bytes.writeInt32BE(this.#end - 12, 8)
    bytes.writeInt32BE(-1, 12)
    bytes.writeInt8(2, 16)
    bytes.writeInt16BE(0, 21)
    bytes.writeInt32BE(this.#count - 1, 23)
    bytes.writeBigInt64BE(timestamp, 27)
    bytes.writeBigInt64BE(timestamp, 35)
    bytes.writeBigInt64BE(producerId, 43)
    bytes.writeInt16BE(producerEpoch, 51)
    bytes.writeInt32BE(firstSequence, 53)
    bytes.writeInt32BE(this.#count, 57)
    bytes.writeUInt32BE(crc32c(bytes, 21, this.#end), 17)
    return bytes.subarray(0, this.#end)
  }

  clear(): void {
    this.#end = batchHeaderBytes
    this.#count = 0
    if (this.#bytes.length > keptCapacityBytes) this.#bytes = Buffer.allocUnsafe(0)
  }

  #makeRoom(more: number): void {
    const needed = this.#end + more
    if (needed <= this.#bytes.length) return
    let capacity = Math.max(firstCapacityBytes, this.#bytes.length)
    while (capacity < needed) capacity *= 2
    // Its own memory, not a piece of Node's pool, so that dropping it frees it.
    const grown = Buffer.allocUnsafeSlow(capacity)
    this.#bytes.copy(grown, 0, 0, Math.min(this.#end, this.#bytes.length))
    this.#bytes = grown
  }
}

// A text this short has its length in one byte, and is written faster here than by a call into C++.
const shortText = 64

/** Length and UTF-8 bytes of a text; gives the place after them. */
function writeText(bytes: Buffer, at: number, text: string): number {
  const length = text.length
  if (length >= shortText) return writeLongText(bytes, at, text)
  let next = at + 1
  for (let n = 0; n < length; n += 1) {
    const unit = text.charCodeAt(n)
    if (unit > 0x7f) return writeLongText(bytes, at, text)
    bytes[next++] = unit
  }
  bytes[at] = length << 1
  return next
}

/** Guesses how many bytes the length takes, and moves the text where the guess was wrong. */
function writeLongText(bytes: Buffer, at: number, text: string): number {
  const guess = varintBytes(text.length)
  const written = bytes.write(text, at + guess)
  const lengthBytes = varintBytes(written)
  if (lengthBytes !== guess) {
    bytes.copyWithin(at + lengthBytes, at + guess, at + guess + written)
  }
  writeVarint(bytes, at, written)
  return at + lengthBytes + written
}

function writeBytes(bytes: Buffer, at: number, value: Buffer): number {
  const next = writeVarint(bytes, at, value.length)
  bytes.set(value, next)
  return next + value.length
}
