import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { controls } from './controls.ts'
import { killPoints } from './kill-points.ts'
import { atReadAhead, parkingAndReleasing } from './parking/places.ts'
import { wallClockLease } from './replicas/cases.ts'
import { byAgeAlone } from './retention/retention-drill.ts'
import { noHandover, places } from './switching/places.ts'

const patches = [
  ...killPoints.map(({ patch }) => patch),
  ...controls.flatMap(({ patches: all }) => all),
  ...places,
  ...noHandover,
  ...wallClockLease,
  ...parkingAndReleasing,
  ...atReadAhead,
  ...byAgeAlone,
]

test.each(patches)('the text that is replaced in $file is there once: $find', ({ file, find }) => {
  const source = readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')
  expect(source.split(find)).toHaveLength(2)
})
