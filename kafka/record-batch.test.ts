import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { type DecodedBatch, decodeRecordBatch } from './record-batch-decoder.ts'
import { RecordBatch } from './record-batch.ts'
import { type KafkaRecord, recordBytes } from './record.ts'

// By MemoryRecordsBuilder of Kafka 4.3.1's Java client, from the records and identity below.
const byJava = [
  '0000000000000000000000f1ffffffff0249e565e8000000000001000001a1fd3d10fb000001a1fd3d10',
  'fb000000000000109200037ffffffe00000002c60100000006612d31227b2262223a312c2261223a2031',
  '2e31307d060469644830313939663261342d376331652d376433612d386235352d306436643266316339',
  '6531300e63655f747970652246756e64734465706f73697465642e76310a656d70747900b20100000210',
  '5a6fc3ab2de2988394017878787878787878787878787878787878787878787878787878787878787878',
  '7878787878787878787878787878787878787878787878787878787878787878787878787878f09d849e',
  '00',
].join('')
const identity = {
  producerId: 4242n,
  producerEpoch: 3,
  firstSequence: 2_147_483_646,
  timestampMs: 1_795_250_000_123,
}
const golden: KafkaRecord[] = [
  {
    topic: 'any',
    key: 'a-1',
    value: '{"b":1,"a": 1.10}',
    headers: [
      ['id', '0199f2a4-7c1e-7d3a-8b55-0d6d2f1c9e10'],
      ['ce_type', 'FundsDeposited.v1'],
      ['empty', ''],
    ],
  },
  { topic: 'any', key: 'Zoë-☃', value: `${'x'.repeat(70)}𝄞`, headers: [] },
]

/** A copy of what a fresh batch of these records is. */
function encoded(records: readonly KafkaRecord[], batch = new RecordBatch()): Buffer {
  for (const record of records) batch.append(record)
  return Buffer.from(batch.finish(identity))
}

function recordsOf({ records }: DecodedBatch): KafkaRecord[] {
  return records.map(({ key, value, headers }, n) => {
    expect(records[n]).toMatchObject({ offsetDelta: n, timestampDeltaMs: 0 })
    const texts = headers.map(([name, each]) => [name, String(each)] as const)
    return { topic: 'any', key: String(key), value: String(value), headers: texts }
  })
}

/** Text as Kafka has it: a half of a surrogate pair has no bytes of its own. */
const text = (maxLength: number) => fc.string({ unit: 'binary', maxLength })
const anyRecord: fc.Arbitrary<KafkaRecord> = fc.record({
  topic: fc.constant('any'),
  key: text(90),
  value: fc.oneof(
    text(200),
    fc.nat(9_000).map((size) => 'é'.repeat(size)),
  ),
  headers: fc.array(fc.tuple(text(20), text(90)), { maxLength: 12 }),
})

test('the bytes are those that the Java client writes', () => {
  expect(encoded(golden).toString('hex')).toBe(byJava)
})

test('a batch of the Java client is read', () => {
  const decoded = decodeRecordBatch(Buffer.from(byJava, 'hex'))
  expect(decoded).toMatchObject({ ...identity, baseOffset: 0n, attributes: 0 })
  expect(recordsOf(decoded)).toEqual(golden)
})

test('every batch is read back as it was written, the buffer being used again and again', () => {
  const batch = new RecordBatch()
  fc.assert(
    fc.property(fc.array(anyRecord, { minLength: 1, maxLength: 12 }), (records) => {
      batch.clear()
      const bytes = encoded(records, batch)
      const decoded = decodeRecordBatch(bytes)
      expect(recordsOf(decoded)).toEqual(records)
      expect(decoded).toMatchObject({ ...identity, sizeBytes: bytes.length })
      const foretold = records.reduce((sum, record) => sum + recordBytes(record), 61)
      expect(bytes.length).toBeLessThanOrEqual(foretold)
    }),
    { numRuns: 300 },
  )
})

test('values of 900 kB, text or bytes, are taken among small ones', () => {
  const texts = ['x'.repeat(900_000), 'small', '☃'.repeat(300_000), '', 'é'.repeat(8_190)]
  const records = texts.map((value): KafkaRecord => ({
    topic: 'any',
    key: 'k',
    value,
    headers: [],
  }))
  const asBytes = records.map((each) => ({ ...each, value: Buffer.from(each.value) }))
  expect(recordsOf(decodeRecordBatch(encoded(records)))).toEqual(records)
  expect(encoded(asBytes)).toEqual(encoded(records))
})

test('what a large record needed is given back, and what small ones need is kept', () => {
  const batch = new RecordBatch()
  encoded([{ topic: 'any', key: 'k', value: Buffer.alloc(5_000_000), headers: [] }], batch)
  expect(batch.capacityBytes).toBeGreaterThan(5_000_000)
  batch.clear()
  expect(batch.capacityBytes).toBe(0)
  const small = Array.from({ length: 900 }, () => golden[0]!)
  encoded(small, batch)
  const { capacityBytes } = batch
  batch.clear()
  expect(batch.capacityBytes).toBe(capacityBytes)
  expect(capacityBytes).toBeLessThanOrEqual(1_048_576)
})

test('any damage is noticed, and named', () => {
  const whole = encoded(golden)
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      // The first 16 bytes are the broker's to change, but for the length among them.
      fc.pre(at >= 16 || (at >= 8 && at < 12))
      const damaged = Buffer.from(whole)
      damaged[at] = damaged[at]! ^ flip
      expect(() => decodeRecordBatch(damaged)).toThrow(
        expect.objectContaining({ code: 'record_batch_malformed' }),
      )
    }),
  )
})

test('a batch that is cut short is refused at every length', () => {
  const whole = encoded(golden)
  for (let length = 0; length < whole.length; length += 1) {
    expect(() => decodeRecordBatch(whole.subarray(0, length))).toThrow(
      expect.objectContaining({ code: 'record_batch_malformed' }),
    )
  }
})
