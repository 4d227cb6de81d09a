import { describe, expect, it } from 'vitest'
import { amount, balance, exponentOf } from './money.ts'

describe('money', () => {
  it.each(['1', '1250', '999999999999999999'])('takes %s as an amount', (text) => {
    expect(amount.parse(text)).toBe(text)
  })

  it.each([
    '-100',
    '0',
    '1e3',
    'NaN',
    '1.5',
    '01',
    '',
    ' 1',
    '1000000000000000000',
    '１',
    1250,
    null,
  ])('refuses %s as an amount', (value) => {
    expect(amount.safeParse(value).success).toBe(false)
  })

  it('takes a balance below zero, and no minus zero', () => {
    expect(balance.safeParse('-5').success).toBe(true)
    expect(balance.safeParse('-0').success).toBe(false)
  })

  it('knows the exponents of ISO 4217, which are not those of any locale', () => {
    const known = { JPY: 0, EUR: 2, ALL: 2, ISK: 0, KWD: 3, CLF: 4 }
    for (const [code, exponent] of Object.entries(known)) expect(exponentOf(code)).toBe(exponent)
    expect(exponentOf('QQQ')).toBeUndefined()
    expect(exponentOf('constructor')).toBeUndefined()
  })
})
