import { expect, test } from 'vitest'
import type { Head } from '../guard.ts'
import { judge, type Suspect } from './suspects.ts'

const fed = (version: number, lastEventId = `e-${version}`) => ({
  account: 'a',
  version,
  lastEventId,
})
const at = (version: number, lastEventId = `e-${version}`): Head => ({ version, lastEventId })
const options = (before: Suspect | undefined, through = true) => ({
  before,
  nowMs: 1_000,
  mayJudge: () => through,
})
const first = (feed: ReturnType<typeof fed>, head: Head | undefined) =>
  judge(feed, head, options(undefined)).suspect

test('an account that agrees is suspected of nothing', () => {
  expect(judge(fed(3), at(3), options(undefined))).toEqual({})
  expect(judge(fed(3), at(3), options(first(fed(3), at(2))))).toEqual({})
})

test('one look proves nothing; a second that finds the same does', () => {
  for (const [feed, head, verdict] of [
    [fed(5), at(4), 'lost_tail'],
    [fed(5), undefined, 'lost_tail'],
    [fed(5), at(5, 'other'), 'version_conflict'],
    [fed(5), at(6), 'version_conflict'],
    [fed(0, ''), at(2), 'version_conflict'],
  ] as const) {
    const suspect = first(feed, head)
    expect(suspect).toBeDefined()
    expect(judge(feed, head, options(suspect))).toEqual({ verdict })
  }
})

test('who went on since the first look is under no old suspicion', () => {
  const behind = first(fed(5), at(4))
  expect(judge(fed(9), at(5), options(behind)).suspect).toMatchObject({ fed: 9, have: 5 })
  const ahead = first(fed(5), at(6))
  expect(judge(fed(8), at(9), options(ahead)).suspect).toMatchObject({ kind: 'ahead', fed: 8 })
})

test('going on a little, and not as far as the feed was, leaves the suspicion', () => {
  const behind = first(fed(9), at(4))
  expect(judge(fed(12), at(8), options(behind))).toEqual({ verdict: 'lost_tail' })
})

test('while the log has not come through, the suspicion stays as it was first noted', () => {
  const suspect = { ...first(fed(5), at(4))!, notedAtMs: 7 }
  expect(judge(fed(6), at(4), options(suspect, false))).toEqual({ suspect })
})
