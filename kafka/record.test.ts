import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { type KafkaRecord, recordBytes, requestEnds } from './record.ts'

const record = (valueBytes: number): KafkaRecord => ({
  topic: 'account-events',
  key: 'a-1',
  value: 'x'.repeat(valueBytes),
  headers: [['id', '1']],
})

test('a batch is cut into runs that cover it in order, each within the limit', () => {
  const sizes = fc.array(fc.integer({ min: 0, max: 3_000 }), { maxLength: 60 })
  fc.assert(
    fc.property(sizes, fc.integer({ min: 100, max: 4_000 }), (values, limitBytes) => {
      const records = values.map(record)
      const ends = requestEnds(records, limitBytes)
      let from = 0
      for (const end of ends) {
        const run = records.slice(from, end)
        const bytes = run.reduce((sum, each) => sum + recordBytes(each), 0)
        expect(run.length).toBeGreaterThan(0)
        if (run.length > 1) expect(bytes).toBeLessThanOrEqual(limitBytes)
        from = end
      }
      expect(from).toBe(records.length)
    }),
  )
})

test('small records are not cut when all of them fit', () => {
  expect(
    requestEnds(
      Array.from({ length: 500 }, () => record(500)),
      900_000,
    ),
  ).toEqual([500])
})

test('a record is measured in bytes of UTF-8, not in characters', () => {
  const plain = recordBytes({ topic: 't', key: 'k', value: 'xxxx', headers: [] })
  expect(recordBytes({ topic: 't', key: 'k', value: '☃☃☃☃', headers: [] })).toBe(plain + 8)
})
