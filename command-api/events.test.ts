import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { eventSchemas, heartbeatIds, parseAccountEvent } from './events.ts'

const fileOf = (name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8'))

const at = '2026-01-02T03:04:05.678000Z'
const after = { version: 2, ledgerBalance: '5', held: '0', available: '5', status: 'open' }
const deposited = {
  accountId: 'acc-1',
  transactionId: '0b9f7a52-3c58-4ce4-9d2f-3d3cbbf7a001',
  amount: '5',
  currency: 'EUR',
  reference: null,
  effectiveAt: '2026-01-02T03:04:05.678Z',
  after,
}

describe('an account event', () => {
  it('is read by its type', () => {
    const event = parseAccountEvent('FundsDeposited.v1', at, JSON.stringify(deposited))
    expect(event).toEqual({ type: 'FundsDeposited.v1', at, payload: deposited })
  })

  it.each([
    ['unknown_event_type', 'FundsDeposited.v2', deposited],
    ['unknown_event_type', 'toString', deposited],
    ['event_malformed', 'FundsDeposited.v1', { ...deposited, amount: 5 }],
    ['event_malformed', 'FundsDeposited.v1', { ...deposited, extra: true }],
    ['event_malformed', 'AccountClosed.v1', deposited],
  ])('is refused with %s rather than guessed at: %s', (code, type, payload) => {
    expect(() => parseAccountEvent(type, at, JSON.stringify(payload))).toThrow(
      expect.objectContaining({ code }),
    )
  })

  it('is refused when it is not JSON', () => {
    expect(() => parseAccountEvent('AccountClosed.v1', at, '{')).toThrow(
      expect.objectContaining({ code: 'event_malformed' }),
    )
  })
})

// Stored events are for ever, and consumers parse strictly. So a schema that this test holds is never
// changed, not by a field that may be missing either: write the new shape as the next version of the
// type (`FundsDeposited.v2`) beside it, with an upcaster from the old one, emit that, and add the new
// version's schema to events.golden.json and one stored event to events.samples.json. Consumers are
// deployed before what emits. Only what was never released may be edited in either file.
describe('the schema of each event type', () => {
  it('is the one that was published', () => {
    expect(eventSchemas()).toEqual(fileOf('events.golden.json'))
  })

  it('still reads what was stored by it, as the newest version of its type', () => {
    const samples = fileOf('events.samples.json')
    expect(Object.keys(samples).toSorted()).toEqual(Object.keys(eventSchemas()).toSorted())
    for (const [type, payload] of Object.entries(samples)) {
      const event = parseAccountEvent(type, at, JSON.stringify(payload))
      expect(event.type.split('.')[0]).toBe(type.split('.')[0])
      if (event.type === type) expect(event.payload).toEqual(payload)
    }
  })

  it('is strict, and tells of the account after the event', () => {
    for (const schema of Object.values(eventSchemas())) {
      expect(schema).toMatchObject({
        additionalProperties: false,
        required: expect.arrayContaining(['accountId', 'after']),
        properties: {
          after: {
            additionalProperties: false,
            required: ['version', 'ledgerBalance', 'held', 'available', 'status'],
          },
        },
      })
    }
  })
})

describe('the heartbeat ids', () => {
  it('are reserved, and one for each of twelve partitions', () => {
    expect(new Set(heartbeatIds).size).toBe(12)
    expect(heartbeatIds.every((id) => id.startsWith('sluice-'))).toBe(true)
  })
})
