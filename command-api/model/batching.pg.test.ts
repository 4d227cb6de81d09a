import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { alikeOn, type Way } from './test-batches.ts'
import { inOneBatch, openSide, type Side } from './test-side.ts'
import { failureOf, seed } from './test-steps.ts'

// The same commands, one at a time on one database and in batches on another: nobody may be able to
// tell by an answer or by a row which is which.

let sides: [alone: Side, together: Side]
beforeAll(async () => {
  sides = [await openSide(), await openSide()]
})
afterAll(async () => {
  for (const side of sides) await side[Symbol.asyncDispose]()
})

describe(`random batches beside the same commands one at a time (MODEL_SEED=${seed})`, () => {
  it('give every answer and every row alike', async () => {
    await fc.assert(alikeOn(sides), { seed, numRuns: 25, interruptAfterTimeLimit: 25_000 })
  })

  const wrongly: [string, Way][] = [
    [
      'decide in another order',
      async (side, units) => (await inOneBatch(side, units.toReversed())).toReversed(),
    ],
    [
      'keep what a dry run does',
      (side, units) =>
        inOneBatch(
          side,
          units.map((unit) => unit.map((each) => ({ ...each, dryRun: false }))),
        ),
    ],
    [
      'do a repeated command again',
      (side, units) =>
        inOneBatch(
          side,
          units.map((unit) =>
            unit.map((each) => ({ ...each, key: `${each.key}-${randomUUID()}` })),
          ),
        ),
    ],
    [
      'do half of what is all or nothing',
      (side, units) =>
        inOneBatch(
          side,
          units.flat().map((each) => [each]),
        ),
    ],
    [
      'fail with their culprit',
      async (side, units) => {
        const outcomes = await inOneBatch(side, units)
        return outcomes.includes('fault') ? outcomes.map(() => 'fault') : outcomes
      },
    ],
    [
      'fail with whoever is refused',
      async ({ submit }, units) => {
        const all = await submit(units.flat())
        return units.map(() => all)
      },
    ],
    [
      'give a caller the answer of another',
      async (side, units) => {
        const outcomes = await inOneBatch(side, units)
        return [...outcomes.slice(1), ...outcomes.slice(0, 1)]
      },
    ],
  ]
  it.each(wrongly)('batches that %s are caught', async (_, way) => {
    expect(await failureOf(alikeOn(sides, way))).toBe('AssertionError')
  })
})
