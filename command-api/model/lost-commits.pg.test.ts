import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Clients, type Resending } from './test-clients.ts'
import { openCommitWire, places, type Place } from './test-commit-wire.ts'
import { openService, type Service } from './test-service.ts'
import { kinds, seed, stepsOf } from './test-steps.ts'

// One of two servers has a wire that is cut while its transactions commit, a quarter of them. Its
// callers have little patience, so that some are left without an outcome and ask again by their key.

let service: Service
const cuts: Record<Place, number> = { before: 0, after: 0, late: 0 }
let isCutting = false
let commits = 0
beforeAll(async () => {
  const cut = () => {
    if (!isCutting || (commits += 1) % 4 > 0) return null
    const place = places[(commits / 4) % places.length] as Place
    cuts[place] += 1
    return place
  }
  service = await openService({ patienceMs: 120, through: (url) => openCommitWire(url, cut) })
})
afterAll(() => service[Symbol.asyncDispose]())

const client = fc.array(fc.record({ step: stepsOf(kinds), twice: fc.constant(false) }), {
  minLength: 30,
  maxLength: 30,
  size: 'max',
})
const given = () =>
  fc.sample(fc.array(client, { minLength: 8, maxLength: 8, size: 'max' }), { seed, numRuns: 1 })[0]!

async function underLoad(resending: Resending) {
  const clients = new Clients(service, resending)
  await clients.begin()
  isCutting = true
  await clients.run(given())
  isCutting = false
  return clients
}

describe(`connections cut while they commit, under load (MODEL_SEED=${seed})`, () => {
  it('leave no caller with a wrong answer, and no command done twice or not at all', async () => {
    const clients = await underLoad('same key')
    expect(await service.faultsIn(clients)).toEqual([])
    await clients.repeatAll()
    expect(await service.faultsIn(clients)).toEqual([])
    expect(places.filter((place) => cuts[place] === 0)).toEqual([])
    expect(clients.unknown).toBeGreaterThan(0)
  })

  it('would, if a caller without an outcome asked again under another key', async () => {
    const clients = await underLoad('new key')
    expect((await service.faultsIn(clients)).length).toBeGreaterThan(0)
  })
})
