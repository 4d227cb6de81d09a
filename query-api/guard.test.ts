import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { guardEvents, type Head } from './guard.ts'

type Event = { account: string; version: number; id: string }

const event = (account: string, version: number): Event => ({
  account,
  version,
  id: `${account}-${version}`,
})

/** Applies batch after batch, as a projection does, and gives what was applied in order. */
function fold(batches: readonly Event[][]) {
  const heads = new Map<string, Head>()
  const applied: string[] = []
  let duplicates = 0
  for (const batch of batches) {
    const guarded = guardEvents(heads, batch)
    expect(guarded.refusals).toEqual([])
    duplicates += guarded.duplicates
    for (const [account, own] of guarded.accepted) {
      applied.push(...own.map(({ id }) => id))
      const last = own.at(-1)!
      heads.set(account, { version: last.version, lastEventId: last.id })
    }
  }
  return { heads, applied, duplicates }
}

/**
 * A log as at-least-once delivery makes it: accounts interleaved, each in version order, and now and
 * then the sender goes back some events and repeats from there.
 */
const deliveredLog = fc
  .record({
    turns: fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 60 }),
    repeats: fc.array(fc.record({ at: fc.nat(80), back: fc.nat(20) }), { maxLength: 5 }),
    cuts: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 40 }),
  })
  .map(({ turns, repeats, cuts }) => {
    const versions = new Map<string, number>()
    const original = turns.map((account) => {
      const version = (versions.get(account) ?? 0) + 1
      versions.set(account, version)
      return event(account, version)
    })
    const log = [...original]
    for (const { at, back } of repeats) {
      const end = Math.min(at, log.length)
      log.splice(end, 0, ...log.slice(Math.max(0, end - back), end))
    }
    const batches: Event[][] = []
    for (let from = 0, turn = 0; from < log.length; turn += 1) {
      const size = cuts[turn % cuts.length]!
      batches.push(log.slice(from, from + size))
      from += size
    }
    return { original, log, batches }
  })

test('whatever is repeated and however it is cut, each event takes effect once, in order', () => {
  fc.assert(
    fc.property(deliveredLog, ({ original, log, batches }) => {
      const { applied, duplicates, heads } = fold(batches)
      expect(applied.toSorted()).toEqual(original.map(({ id }) => id).toSorted())
      expect(duplicates).toBe(log.length - original.length)
      for (const account of heads.keys()) {
        const own = applied.filter((id) => id.startsWith(`${account}-`))
        expect(own).toEqual(own.map((_, index) => `${account}-${index + 1}`))
      }
    }),
  )
})

test('an event left out is never passed over, however the log is cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 2, maxLength: 40 }),
      fc.nat(),
      (turns, pick) => {
        const versions = new Map<string, number>()
        const log = turns.map((account) => {
          versions.set(account, (versions.get(account) ?? 0) + 1)
          return event(account, versions.get(account)!)
        })
        const [lost] = log.splice(pick % log.length, 1)
        const later = log.findIndex(
          ({ account, version }) => account === lost!.account && version > lost!.version,
        )
        const { refusals, accepted } = guardEvents(new Map(), log)
        const { account, version: wanted } = lost!
        const behind = log.slice(later).filter((each) => each.account === account)
        if (later === -1) expect(refusals).toEqual([])
        else {
          expect(refusals).toEqual([
            {
              code: 'version_gap',
              index: later,
              account,
              wanted,
              seen: wanted + 1,
              highest: wanted + behind.length,
              held: behind.length,
            },
          ])
        }
        // Everybody else's events are taken, all of them and in their order.
        for (const other of ['a', 'b', 'c'].filter((name) => name !== account)) {
          const own = log.filter((each) => each.account === other)
          expect(accepted.get(other) ?? []).toEqual(own)
        }
      },
    ),
  )
})

test('the same version under another event id is a conflict, and nothing from it on is taken', () => {
  const heads = new Map([['a', { version: 3, lastEventId: 'a-3' }]])
  const other = { account: 'a', version: 3, id: 'from another history' }
  const guarded = guardEvents(heads, [event('b', 1), other, event('b', 2), event('a', 4)])
  expect(guarded.refusals).toEqual([
    {
      code: 'version_conflict',
      index: 1,
      account: 'a',
      wanted: 4,
      seen: 3,
      highest: 4,
      held: 2,
    },
  ])
  expect([...guarded.accepted]).toEqual([['b', [event('b', 1), event('b', 2)]]])
})

test('a conflict is seen within one batch too', () => {
  const other = { account: 'a', version: 2, id: 'from another history' }
  const guarded = guardEvents(new Map(), [event('a', 1), event('a', 2), other])
  expect(guarded.refusals.map(({ code }) => code)).toEqual(['version_conflict'])
})
