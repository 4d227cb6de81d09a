import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { crc32c } from './crc32c.ts'

// RFC 3720, appendix B.4, and the check value that every CRC catalogue has.
test.each([
  ['123456789', Buffer.from('123456789'), 0xe3069283],
  ['nothing', Buffer.alloc(0), 0],
  ['32 zeros', Buffer.alloc(32), 0x8a9136aa],
  ['32 ones', Buffer.alloc(32, 0xff), 0x62a8ab43],
  ['0 up to 31', Buffer.from(Array.from({ length: 32 }, (_, n) => n)), 0x46dd794e],
  ['31 down to 0', Buffer.from(Array.from({ length: 32 }, (_, n) => 31 - n)), 0x113fdb5c],
])('the checksum of %s is the published one', (_, bytes, expected) => {
  expect(crc32c(bytes)).toBe(expected)
})

/** Bit by bit, as the definition reads. */
function byDefinition(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  return ~crc >>> 0
}

test('eight bytes a step give what one bit a step gives, wherever the bytes begin and end', () => {
  const bytes = fc.uint8Array({ maxLength: 100 })
  fc.assert(
    fc.property(bytes, fc.nat(9), fc.nat(9), (all, before, after) => {
      const padded = Buffer.concat([Buffer.alloc(before, 7), all, Buffer.alloc(after, 9)])
      expect(crc32c(padded, before, before + all.length)).toBe(byDefinition(all))
    }),
  )
})
