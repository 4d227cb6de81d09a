// The logical replication messages of plugin pgoutput, protocol version 1, as far as a publication
// of inserts sends them (PostgreSQL documentation, "Logical Replication Message Formats"):
//
//   Begin     'B' lsn64 final, int64 time, int32 xid
//   Commit    'C' int8 flags, lsn64 commit, lsn64 end, int64 time
//   Relation  'R' int32 oid, string schema, string name, int8 identity, int16 columns,
//                 each: int8 flags, string name, int32 type, int32 modifier
//   Insert    'I' int32 oid, 'N', int16 columns, each: 'n' | 'u' | 't' int32 length, bytes
//   Origin 'O', Type 'Y', Message 'M', Truncate 'T': nothing that we publish
//
// Strings end with a zero byte. All rows of a transaction come between its Begin and its Commit, and
// only once it has committed. A Relation comes before the first row of its table and again after every
// change of it, so columns are found by name in the latest one.
import { RelayError } from '../errors.ts'
import type { OutboxRow } from '../wire.ts'
import type { Lsn } from './lsn.ts'

export type Decoded =
  | { kind: 'begin' }
  | { kind: 'row'; row: OutboxRow }
  /** `end` is where the transaction's commit record ends: all before it need not be sent again. */
  | { kind: 'commit'; end: Lsn }
  | { kind: 'other' }

type Relation = { name: string; columns: string[]; order: number[] }

/** Of `OutboxRow`, in its order. */
const columns = [
  'position',
  'id',
  'aggregatetype',
  'aggregateid',
  'aggregateversion',
  'type',
  'occurred_at',
  'source',
  'specversion',
  'correlationid',
  'causationid',
  'traceparent',
  'payload',
] as const
const timeColumn = columns.indexOf('occurred_at')

const begin: Decoded = { kind: 'begin' }
const other: Decoded = { kind: 'other' }

/**
 * Decodes the messages of one stream, in their order. Throws `stream_malformed`: for bytes that are
 * not as above, for a table without one of our columns, for a null, for a change that is no insert.
 */
export class PgoutputDecoder {
  readonly #relations = new Map<number, Relation>()
  #bytes: Buffer = Buffer.alloc(0)
  #at = 0

  decode(bytes: Buffer): Decoded {
    this.#bytes = bytes
    this.#at = 1
    const decoded = this.#message()
    if (decoded !== other && this.#at !== bytes.length) {
      throw malformed(`${bytes.length - this.#at} more bytes than a message of its type has`)
    }
    return decoded
  }

  #message(): Decoded {
    const type = this.#bytes[0]
    switch (type) {
      case 0x49: // I
        return { kind: 'row', row: this.#insert() }
      case 0x42: // B
        this.#skip(20)
        return begin
      case 0x43: // C
        return { kind: 'commit', end: this.#commit() }
      case 0x52: // R
        this.#relation()
        return other
      case 0x4d: // M
      case 0x4f: // O
      case 0x59: // Y
        return other
      default:
        throw malformed(
          `a message of type ${JSON.stringify(String.fromCharCode(type ?? 0))}: the publication ` +
            "must publish inserts only (publish = 'insert')",
        )
    }
  }

  #commit(): Lsn {
    this.#skip(9)
    const end = this.#bytes.readBigUInt64BE(this.#skip(8))
    this.#skip(8)
    return end
  }

  #insert(): OutboxRow {
    const oid = this.#int32()
    const relation = this.#relations.get(oid)
    if (relation === undefined) throw malformed(`a row of relation ${oid}, which was not described`)
    if (this.#byte() !== 0x4e) throw malformed('an insert without a new row')
    const count = this.#int16()
    const values: string[] = Array.from({ length: columns.length })
    for (let column = 0; column < count; column += 1) {
      const kind = this.#byte()
      const place = relation.order[column] ?? -1
      if (kind === 0x74) {
        const from = this.#skip(this.#int32())
        if (place !== -1) values[place] = this.#bytes.toString('utf8', from, this.#at)
      } else if (kind !== 0x6e || place !== -1) {
        throw malformed(`no text in column ${relation.columns[column]} of ${relation.name}`)
      }
    }
    if (count !== relation.columns.length) {
      throw malformed(`a row of ${count} columns in ${relation.name}`)
    }
    values[timeColumn] = wireTime(values[timeColumn] ?? '')
    return values as unknown as OutboxRow
  }

  #relation(): void {
    const oid = this.#int32()
    const name = `${this.#string()}.${this.#string()}`
    this.#skip(1)
    const count = this.#int16()
    const found: string[] = []
    for (let column = 0; column < count; column += 1) {
      this.#skip(1)
      found.push(this.#string())
      this.#skip(8)
    }
    const missing = columns.filter((column) => !found.includes(column))
    if (missing.length > 0) throw malformed(`${name} has no column ${missing.join(', ')}`)
    const order = found.map((column) => (columns as readonly string[]).indexOf(column))
    this.#relations.set(oid, { name, columns: found, order })
  }

  #string(): string {
    const end = this.#bytes.indexOf(0, this.#at)
    if (end === -1) throw malformed('a string without an end')
    const text = this.#bytes.toString('utf8', this.#at, end)
    this.#at = end + 1
    return text
  }

  // Numbers are read where they stand: a view of each would cost more than all the texts of a row.

  #byte(): number | undefined {
    return this.#bytes[this.#skip(1)]
  }

  #int16(): number {
    return this.#bytes.readInt16BE(this.#skip(2))
  }

  #int32(): number {
    return this.#bytes.readInt32BE(this.#skip(4))
  }

  /** Gives where the bytes passed over begin. */
  #skip(length: number): number {
    const from = this.#at
    if (length < 0 || from + length > this.#bytes.length) {
      throw malformed(`${this.#bytes.length} bytes, and more were expected`)
    }
    this.#at = from + length
    return from
  }
}

const timePattern = /^(\d{4,})-(\d\d)-(\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\+00$/

/**
 * PostgreSQL's text of a timestamptz, in a session of time zone UTC and date style ISO, as the wire
 * contract has it: `2026-11-21 08:00:00.12+00` is `2026-11-21T08:00:00.120000Z`.
 */
export function wireTime(text: string): string {
  const [, year, month, day, time, fraction = ''] = timePattern.exec(text) ?? []
  if (year === undefined) throw malformed(`a time as ${text}`)
  return `${year}-${month}-${day}T${time}.${fraction.padEnd(6, '0')}Z`
}

function malformed(what: string): RelayError {
  return new RelayError('stream_malformed', `the replication stream brought ${what}`)
}
