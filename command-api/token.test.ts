import { describe, expect, it } from 'vitest'
import { decodeToken, encodeToken } from './token.ts'

describe('the consistency token', () => {
  it('brings back the accounts and versions it was made of', () => {
    const token = new Map([
      ['acc-1', 3],
      ['b_2', 17],
    ])
    expect(decodeToken(encodeToken(token))).toEqual(token)
  })

  it.each([
    '',
    'v1.',
    'v2.eyJhIjoxfQ',
    'v1.!!!',
    `v1.${Buffer.from('[]').toString('base64url')}`,
    `v1.${Buffer.from('{}').toString('base64url')}`,
    `v1.${Buffer.from('{"__proto__":1}').toString('base64url')}`,
    `v1.${Buffer.from('{"a":0}').toString('base64url')}`,
    `v1.${Buffer.from('{"a":"1"}').toString('base64url')}`,
    `v1.${Buffer.from('{"a b":1}').toString('base64url')}`,
    `v1.${'A'.repeat(9_000)}`,
    encodeToken(new Map(Array.from({ length: 51 }, (_, n) => [`a${n}`, 1]))),
  ])('is not %s', (text) => {
    expect(decodeToken(text)).toBeUndefined()
  })
})
