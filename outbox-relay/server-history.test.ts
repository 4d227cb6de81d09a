import { expect, test } from 'vitest'
import { progressFrom } from './progress.ts'
import { nothingSeen, seenWith, stepBack } from './server-history.ts'

const row = { timeline: '1', serverTimeline: '1', lastDrawn: '120', renewal: '40' }
const progress = progressFrom(100n, [[90n, 91n]])
const seen = { next: 100n, renewal: 40n }

test.each([
  ['the same server, as it was left', row, seen],
  ['a process that has seen nothing', row, nothingSeen],
  ['the first leader of all', { ...row, timeline: null }, nothingSeen],
  ['the last position drawn is the last published', { ...row, lastDrawn: '99' }, seen],
  ['a crash that made the sequence jump', { ...row, lastDrawn: '152' }, seen],
  ['another leader that went on', { ...row, renewal: '999' }, { next: 50n, renewal: 40n }],
])('no alarm: %s', (_what, found, remembered) => {
  expect(stepBack(found, progress, remembered)).toBeUndefined()
})

test('no alarm: an outbox that was never written to', () => {
  const untouched = { ...row, lastDrawn: null }
  expect(stepBack(untouched, progressFrom(1n, []), nothingSeen)).toBeUndefined()
})

test.each([
  ['a promoted standby', { ...row, serverTimeline: '2' }, seen, /timeline 2.*timeline 1/],
  ['a sequence that stands below', { ...row, lastDrawn: '98' }, seen, /last position drawn is 98/],
  ['a sequence that begins anew', { ...row, lastDrawn: null }, seen, /drawn is none/],
  ['progress below what was saved', row, { ...seen, next: 101n }, /100.*had saved 101/],
  ['a lease counted back', row, { ...seen, renewal: 41n }, /renewed 40 times.*seen it renewed 41/],
])('alarm: %s', (_what, found, remembered, reason) => {
  expect(stepBack(found, progress, remembered)).toMatch(reason)
})

test('what was seen only grows', () => {
  const more = seenWith(seen, { renewal: '41' })
  expect(more).toEqual({ next: 100n, renewal: 41n })
  expect(seenWith(more, row)).toEqual(more)
})
