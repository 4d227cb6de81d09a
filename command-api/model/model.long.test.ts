import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rules, type Rules } from './test-bank.ts'
import { alikeOn } from './test-batches.ts'
import { atTheSameMoment, oneAfterAnother } from './test-properties.ts'
import { openService, type Service } from './test-service.ts'
import { openSide, type Side } from './test-side.ts'
import { failureOf, seed } from './test-steps.ts'

// As the quick ones, for minutes; and wrong models against commands of all kinds.

let service: Service
let sides: [Side, Side]
beforeAll(async () => {
  service = await openService()
  sides = [await openSide(), await openSide()]
})
afterAll(async () => {
  for (const each of [...sides, service]) await each[Symbol.asyncDispose]()
})

const numRuns = 300
const limitMs = 600_000

describe(`random commands for long (MODEL_SEED=${seed})`, () => {
  it(
    'one after another are answered as the model says',
    () => fc.assert(oneAfterAnother(service), { seed, numRuns }),
    limitMs,
  )

  it(
    'at the same moment are answered as in some order',
    () => fc.assert(atTheSameMoment(service), { seed, numRuns }),
    limitMs,
  )

  it(
    'in batches give every answer and every row as one at a time',
    () => fc.assert(alikeOn(sides), { seed, numRuns }),
    limitMs,
  )

  it.each<[string, Partial<Rules>]>([
    ['lets a frozen account pay', { stopsDebits: () => false }],
    ['lets a frozen account be paid', { stopsCredits: () => false }],
    ['captures what has expired', { isDue: () => false }],
    ['reverses twice', { isReversed: () => false }],
    ['closes with money on it', { mayClose: () => true }],
    ['forces a debit of any size', { forceDebitLimit: 10n ** 18n }],
  ])(
    'would show a bank that %s',
    async (_, wrong) => {
      const failure = await failureOf(oneAfterAnother(service, { ...rules, ...wrong }), 500)
      expect(failure).toBe('AssertionError')
    },
    limitMs,
  )
})
