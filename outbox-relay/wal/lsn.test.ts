import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatLsn, parseLsn } from './lsn.ts'

describe('an LSN', () => {
  it('is read and written as PostgreSQL writes it', () => {
    expect(parseLsn('16/B374D848')).toBe(0x16_b374_d848n)
    expect(formatLsn(0x16_b374_d848n)).toBe('16/B374D848')
    expect(formatLsn(0n)).toBe('0/0')
    expect(formatLsn(1n << 32n)).toBe('1/0')
  })

  it('survives being written and read', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, (1n << 64n) - 1n), (lsn) => {
        expect(parseLsn(formatLsn(lsn))).toBe(lsn)
      }),
    )
  })

  it.each(['', '16', '16/', '/16', '16/XYZ', '123456789/0', '16/B374D848 '])(
    'is nothing like %j',
    (text) => {
      expect(() => parseLsn(text)).toThrow('not an LSN')
    },
  )
})
