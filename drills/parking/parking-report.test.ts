import { expect, test } from 'vitest'
import { rest } from '../test-rest.ts'
import { casesOf } from './parking-drill.ts'
import { placesOfParking, placesOfRelease } from './places.ts'
import { parkingFailures } from './run.ts'

const result = { ...rest(), cases: [{ name: 'wal' }] }
const whole = { only: undefined }

test('every place of parking and of a release is passed in both modes, killed and frozen', () => {
  const places = [...placesOfParking, ...placesOfRelease]
  expect(casesOf(undefined)).toHaveLength(places.length * 2 * 2)
  expect(casesOf('wal, SIGSTOP after it has sent')).toHaveLength(1)
})

test('a release that does not end fails the drill, and so does what is not as it should be at rest', () => {
  expect(parkingFailures(result, whole)).toEqual([])
  const cases = [{ name: 'wal', error: 'still parked' }]
  expect(parkingFailures({ ...result, cases }, whole)).toEqual(['wal: still parked'])
  const crashed = { ...result, unexpected: ['outbox-relay: 3'] }
  expect(parkingFailures(crashed, whole)).toEqual(['ended by itself: outbox-relay: 3'])
  const left = ['slots left behind: a']
  expect(parkingFailures({ ...result, left }, whole)).toEqual(['at rest: slots left behind: a'])
})
