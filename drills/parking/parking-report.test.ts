import { expect, test } from 'vitest'
import { casesOf } from './parking-drill.ts'
import { places } from './places.ts'
import { parkingFailures } from './run.ts'

const none = { committed: 0, delivered: 0, repeated: 0, lost: 0, phantom: 0, outOfOrder: 0 }
const verdict = { findings: [], figures: { ...none, repeats: [], moneyDrift: 0n } }
const result = { cases: [{ name: 'wal' }], verdict, records: [], quarantined: {}, skipped: 0 }

test('every place of a release is passed in both modes, killed and frozen', () => {
  expect(casesOf(undefined)).toHaveLength(places.length * 2 * 2)
  expect(casesOf('wal, SIGSTOP after it has sent')).toHaveLength(1)
})

test('a release that does not end and a breach each fail the drill', () => {
  expect(parkingFailures(result)).toEqual([])
  const cases = [{ name: 'wal', error: 'still parked' }]
  expect(parkingFailures({ ...result, cases })).toEqual(['wal: still parked'])
  const findings = [{ promise: 'I3' as const, what: 'a version 2 after 3' }]
  const broken = { ...result, verdict: { ...verdict, findings } }
  expect(parkingFailures(broken)).toEqual(['1 breaches of promises'])
})
