import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { readVarint, varintBytes, writeVarint } from './varint.ts'

test.each([
  [0, '00'],
  [-1, '01'],
  [1, '02'],
  [63, '7e'],
  [64, '8001'],
  [-65, '8101'],
  [300, 'd804'],
  [2_147_483_647, 'feffffff0f'],
  [-2_147_483_648, 'ffffffff0f'],
])('%i is written as %s', (value, hex) => {
  const bytes = Buffer.alloc(8)
  const end = writeVarint(bytes, 1, value)
  expect(bytes.subarray(1, end).toString('hex')).toBe(hex)
})

test('every number is read back, and takes as many bytes as foretold', () => {
  fc.assert(
    fc.property(fc.integer(), (value) => {
      const bytes = Buffer.alloc(5)
      const end = writeVarint(bytes, 0, value)
      expect(varintBytes(value)).toBe(end)
      expect(readVarint(bytes, 0)).toEqual({ value: BigInt(value), next: end })
    }),
  )
})

test('a number of 64 bits is read, and one without an end refused', () => {
  const least = Buffer.from('ffffffffffffffffff01', 'hex')
  expect(readVarint(least, 0)).toEqual({ value: -(2n ** 63n), next: 10 })
  expect(() => readVarint(Buffer.from('ffff', 'hex'), 0)).toThrow(RangeError)
  expect(() => readVarint(Buffer.alloc(20, 0xff), 0)).toThrow(RangeError)
})
