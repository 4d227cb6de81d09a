import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { eventReader, type Upcasters } from './event-reader.ts'

// An event type that changed twice: an amount that had been a number, then got a currency.
const schemas = {
  'CoinTossed.v1': z.strictObject({ amount: z.int() }),
  'CoinTossed.v2': z.strictObject({ amount: z.string().regex(/^\d+$/) }),
  'CoinTossed.v3': z.strictObject({ amount: z.string(), currency: z.string() }),
  'CoinLost.v1': z.strictObject({ where: z.string() }),
}
const upcasters: Upcasters = {
  'CoinTossed.v1': ({ amount }: { amount: number }) => ({ amount: String(amount) }),
  'CoinTossed.v2': ({ amount }: { amount: string }) => ({ amount, currency: 'EUR' }),
}
const read = eventReader(schemas, upcasters)

describe('an event that is stored as an older version', () => {
  it.each([
    ['CoinTossed.v1', '{"amount":5}'],
    ['CoinTossed.v2', '{"amount":"5"}'],
    ['CoinTossed.v3', '{"amount":"5","currency":"EUR"}'],
  ])('%s is read as the newest', (type, text) => {
    const newest = { type: 'CoinTossed.v3', payload: { amount: '5', currency: 'EUR' } }
    expect(read(type, text)).toEqual(newest)
  })

  it('is read by the schema of its own version first', () => {
    const malformed = expect.objectContaining({ code: 'event_malformed' })
    expect(() => read('CoinTossed.v1', '{"amount":"5"}')).toThrow(malformed)
    expect(() => read('CoinTossed.v2', '{"amount":"5","currency":"EUR"}')).toThrow(malformed)
  })

  it('is refused when what it was taken up to is not as the next schema says', () => {
    const malformed = expect.objectContaining({ code: 'event_malformed' })
    expect(() => read('CoinTossed.v1', '{"amount":-5}')).toThrow(malformed)
  })

  it('leaves other types as they are', () => {
    expect(read('CoinLost.v1', '{"where":"here"}').type).toBe('CoinLost.v1')
    const unknown = expect.objectContaining({ code: 'unknown_event_type' })
    expect(() => read('CoinLost.v2', '{"where":"here"}')).toThrow(unknown)
    expect(() => read('toString', '{}')).toThrow(unknown)
  })
})

describe('a reader', () => {
  it('is not made of versions without a way up, nor of ways to nowhere', () => {
    const { 'CoinTossed.v2': _, ...gap } = upcasters
    expect(() => eventReader(schemas, gap)).toThrow('CoinTossed.v2 has an upcaster')
    const nowhere = { ...upcasters, 'CoinLost.v1': () => ({}) }
    expect(() => eventReader(schemas, nowhere)).toThrow('CoinLost.v1 has an upcaster')
    const unknown = { ...upcasters, 'CoinFound.v1': () => ({}) }
    expect(() => eventReader(schemas, unknown)).toThrow('CoinFound.v1 has an upcaster')
    expect(() => eventReader({ Coin: z.unknown() }, {})).toThrow('no name and version')
  })
})
