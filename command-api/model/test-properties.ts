import assert from 'node:assert/strict'
import fc from 'fast-check'
import { rules, type Rules } from './test-bank.ts'
import { Clients, type ClientStep } from './test-clients.ts'
import { brokenIn, readLedger } from './test-ledger.ts'
import type { Service } from './test-service.ts'
import { kinds, stepsOf } from './test-steps.ts'
import { World, type Turn } from './test-world.ts'

export type Steps = Parameters<typeof stepsOf>[0]

const turns = (weights: Steps): fc.Arbitrary<Turn> => {
  const step = stepsOf(weights)
  const does = <T extends string>(what: T) => ({ does: fc.constant(what) })
  return fc.oneof(
    { weight: 24, arbitrary: fc.record({ ...does('command'), step }) },
    { weight: 2, arbitrary: fc.record({ ...does('dry run'), step }) },
    { weight: 2, arbitrary: fc.record({ ...does('repeat'), ref: fc.nat(9) }) },
    { weight: 1, arbitrary: fc.record({ ...does('reuse a key'), ref: fc.nat(9) }) },
    // Not long enough for a hold to expire, or long enough for all.
    { weight: 2, arbitrary: fc.record({ ...does('wait'), seconds: fc.constantFrom(10, 70) }) },
    { weight: 1, arbitrary: fc.record(does('expire')) },
  )
}

/** Random turns: the answers against the model, then the rows, then what must always hold. */
export function oneAfterAnother(service: Service, rule: Rules = rules, weights: Steps = kinds) {
  const run = fc.array(turns(weights), { minLength: 20, maxLength: 60, size: 'max' })
  return fc.asyncProperty(run, async (given) => {
    const world = new World(service.apis[0], rule, service.clock)
    await world.begin()
    for (const each of given) await world.take(each)
    await world.compareRows()
    assert.deepEqual(brokenIn(await readLedger(service.admin, world.prefix)), [])
  })
}

const rarely = fc.oneof(
  { weight: 8, arbitrary: fc.constant(false) },
  { weight: 1, arbitrary: fc.constant(true) },
)

/** Clients at the same moment: what they were told must be explained by some order. */
export function atTheSameMoment(service: Service, rule: Rules = rules, weights: Steps = kinds) {
  const clientStep: fc.Arbitrary<ClientStep> = fc.record({ step: stepsOf(weights), twice: rarely })
  const client = fc.array(clientStep, { minLength: 6, maxLength: 14, size: 'max' })
  const all = fc.array(client, { minLength: 4, maxLength: 6 })
  return fc.asyncProperty(all, async (given) => {
    const clients = new Clients(service)
    await clients.begin()
    await clients.run(given)
    assert.deepEqual(await service.faultsIn(clients, rule), [])
  })
}
