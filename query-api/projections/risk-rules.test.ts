import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ProjectedEvent } from '../projection.ts'
import { eventRow, projected } from '../test-events.ts'
import { assess, type Flag, noHistory, rules } from './risk-rules.ts'

const account = 'acc'

/** At a minute of its history; a withdrawal unless it says otherwise. */
type Step = { minute: number; amount: number; deposit?: boolean }

function historyOf(steps: readonly Step[]): ProjectedEvent[] {
  let balance = 0
  const moved = steps.map(({ minute, amount, deposit = false }, index) => {
    balance += deposit ? amount : -amount
    const type = deposit ? 'FundsDeposited.v1' : 'FundsWithdrawn.v1'
    const row = eventRow(account, index + 2, {
      amount: String(amount),
      balance: String(balance),
      type,
    })
    return at(projected(row), minute)
  })
  return [at(projected(eventRow(account, 1)), 0), ...moved]
}

function at(event: ProjectedEvent, minute: number): ProjectedEvent {
  const time = new Date(Date.UTC(2026, 0, 1) + minute * 60_000).toISOString()
  return { ...event, event: { ...event.event, at: time } }
}

/** In batches of so many: behind each one the history is stored, and read again. */
function flagsOf(events: readonly ProjectedEvent[], batch = 1): Flag[] {
  let history = noHistory
  return events.flatMap((event, index) => {
    const judged = assess(history, event)
    history = judged.history
    if ((index + 1) % batch === 0) history = JSON.parse(JSON.stringify(history)) as typeof history
    return judged.flags
  })
}

const kinds = (steps: readonly Step[]) => flagsOf(historyOf(steps)).map(({ kind }) => kind)
const salary: Step = { minute: 1, amount: 1_000_000, deposit: true }
const withdrawals = (minutes: readonly number[], amount = 10): Step[] =>
  minutes.map((minute) => ({ minute, amount }))

test('five withdrawals within ten minutes are a flag with all five, the first and last included', () => {
  const events = historyOf([salary, ...withdrawals([10, 12, 15, 18, 20])])
  const [flag, ...others] = flagsOf(events)
  expect(others).toEqual([])
  expect(flag).toMatchObject({ kind: 'velocity', account, version: 7, at: events[6]?.event.at })
  expect(flag?.events.map(({ id }) => id)).toEqual(events.slice(2).map(({ id }) => id))
})

test('four of them, or five over more than ten minutes, are none', () => {
  expect(kinds([salary, ...withdrawals([10, 11, 12, 13])])).toEqual([])
  expect(kinds([salary, ...withdrawals([10, 12, 15, 18, 20.01])])).toEqual([])
})

test('one burst is one flag, and the next burst is another', () => {
  expect(kinds([salary, ...withdrawals([10, 11, 12, 13, 14, 15, 16, 17])])).toEqual(['velocity'])
  const again = withdrawals([10, 11, 12, 13, 14, 30, 31, 32, 33, 34])
  expect(kinds([salary, ...again])).toEqual(['velocity', 'velocity'])
})

const quiet = withdrawals(Array.from({ length: 10 }, (_, index) => 2_000 + index * 60))

test('a withdrawal far above ten earlier ones is a flag of its own', () => {
  const varied = quiet.map((step, index) => ({ ...step, amount: 100 + (index % 3) }))
  const large = { minute: 9_000, amount: 400 }
  expect(kinds([salary, ...varied, large])).toEqual(['outlier'])
  expect(kinds([salary, ...varied, { ...large, amount: 299 }])).toEqual([])
  expect(kinds([salary, ...varied.slice(1), large])).toEqual([])
})

test('where all were equal, a little more is no outlier and three times as much is', () => {
  expect(kinds([salary, ...quiet, { minute: 9_000, amount: 29 }])).toEqual([])
  expect(kinds([salary, ...quiet, { minute: 9_000, amount: 30 }])).toEqual(['outlier'])
})

test('a new account emptied within a day is a flag, with its opening and its highest balance', () => {
  const events = historyOf([salary, { minute: 60, amount: 950_000 }])
  const flags = flagsOf(events)
  expect(flags).toMatchObject([{ kind: 'emptied', version: 3 }])
  expect(flags[0]?.events.map(({ version }) => version)).toEqual([1, 2, 3])
})

test('an older account, one not quite emptied, and one emptied before are none', () => {
  expect(kinds([salary, { minute: 1_440, amount: 950_000 }])).toEqual(['emptied'])
  expect(kinds([salary, { minute: 1_441, amount: 950_000 }])).toEqual([])
  expect(kinds([salary, { minute: 60, amount: 949_999 }])).toEqual([])
  const twice = [salary, { minute: 60, amount: 950_000 }, { minute: 70, amount: 50_000 }]
  expect(kinds(twice)).toEqual(['emptied'])
})

test('however the events are cut into batches, the flags are the same', () => {
  const step = fc.record({
    minute: fc.integer({ min: 0, max: 200 }),
    amount: fc.integer({ min: 1, max: 1_000 }),
    deposit: fc.boolean(),
  })
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.integer({ min: 1, max: 9 }),
      (steps, batch) => {
        const events = historyOf(steps.toSorted((one, other) => one.minute - other.minute))
        const flags = flagsOf(events)
        expect(flagsOf(events, batch)).toEqual(flags)
        for (const { events: own, kind } of flags) {
          if (kind === 'velocity') expect(own).toHaveLength(rules.velocity.withdrawals)
          expect(own.map(({ version }) => version)).toEqual(
            own.map(({ version }) => version).toSorted((one, other) => one - other),
          )
        }
      },
    ),
  )
})
