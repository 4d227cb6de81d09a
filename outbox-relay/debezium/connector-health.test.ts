import { describe, expect, test } from 'vitest'
import {
  afterPassing,
  afterSighting,
  type Health,
  healthy,
  type Remedy,
  type Sighting,
} from './connector-health.ts'

const seen = (task: 'RUNNING' | 'FAILED' | 'PAUSED', failure = 'Caused by: x'): Sighting => ({
  connector: { state: task === 'FAILED' ? 'RUNNING' : task, worker: 'w' },
  tasks: [{ id: 0, state: task, worker: 'w', ...(task === 'FAILED' && { failure }) }],
})

/** A sighting a second, waits at their longest. */
function follow(sightings: readonly Sighting[], from: Health = healthy) {
  const remedies: Remedy[] = []
  let health = from
  for (const [second, sighting] of sightings.entries()) {
    const after = afterSighting(health, sighting, second * 1_000, () => 1)
    health = after.health
    remedies.push(after.remedy)
  }
  const restartsAt = remedies.flatMap((remedy, second) => (remedy === 'restart' ? [second] : []))
  const gaveUpAt = remedies.findIndex((remedy) => typeof remedy !== 'string')
  return { health, remedies, restartsAt, gaveUpAt }
}

const seconds = (count: number, sighting: Sighting) => Array.from({ length: count }, () => sighting)

describe('a task that FAILED', () => {
  test('is restarted five times, each later than the one before, and then given up', () => {
    const { restartsAt, gaveUpAt, remedies } = follow(seconds(60, seen('FAILED')))
    expect(restartsAt.slice(0, 5)).toEqual([0, 1, 3, 7, 15])
    expect(restartsAt).toHaveLength(5)
    expect(gaveUpAt).toBe(31)
    expect(remedies[gaveUpAt]).toEqual({ giveUp: 'it FAILED after 5 restarts: Caused by: x' })
  })

  test('is not restarted when Kafka refuses an event, which polling is to park', () => {
    const failure =
      'Caused by: org.apache.kafka.common.errors.RecordTooLargeException: 1100000 bytes'
    const { remedies } = follow([seen('FAILED', failure)])
    expect(remedies).toMatchObject([{ refused: true, giveUp: expect.stringContaining(failure) }])
  })

  test('counts on though it runs in between, as long as no checkpoint is passed', () => {
    const flapping = Array.from({ length: 120 }, (_, n) => seen(n % 2 === 0 ? 'FAILED' : 'RUNNING'))
    const { restartsAt, gaveUpAt } = follow(flapping)
    expect(restartsAt).toHaveLength(5)
    expect(gaveUpAt).toBeGreaterThan(0)
  })

  test('counts anew once a checkpoint is passed', () => {
    const { health } = follow(seconds(16, seen('FAILED')))
    expect(health.restarts).toBe(5)
    const { remedy } = afterSighting(afterPassing(health), seen('FAILED'), 100_000)
    expect(remedy).toBe('restart')
  })
})

describe('a connector that is missing', () => {
  test('is given up at the third sighting in a row', () => {
    expect(follow(seconds(3, 'missing')).gaveUpAt).toBe(2)
  })

  test('is not given up when it is seen in between', () => {
    const sightings = [...seconds(2, 'missing'), seen('RUNNING'), ...seconds(2, 'missing')]
    expect(follow(sightings).gaveUpAt).toBe(-1)
  })
})

test('nothing is done while Connect does not answer, or the connector is paused', () => {
  expect(new Set(follow(seconds(100, 'away')).remedies)).toEqual(new Set(['none']))
  expect(new Set(follow(seconds(100, seen('PAUSED'))).remedies)).toEqual(new Set(['none']))
})
