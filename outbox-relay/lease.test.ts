import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { checkServer, mayTake, sighted, type Sighting } from './lease.ts'
import type { RelayRow } from './relay-table.ts'

const row: RelayRow = {
  mode: 'polling',
  leader: 'other',
  epoch: '4',
  renewal: '17',
  systemIdentifier: '77',
  serverIdentifier: '77',
  timeline: null,
  serverTimeline: '1',
  lastDrawn: null,
  modeVariable: null,
  isStandby: false,
}
const leaseMs = 1_000

test('a standby waits until the counter has stood still for the whole lease on its own clock', () => {
  const seen = sighted(undefined, row, 5_000)
  const at = (nowMs: number) =>
    mayTake(row, sighted(seen, row, nowMs), { me: 'me', nowMs, leaseMs })
  expect(at(5_000)).toBe(false)
  expect(at(5_999)).toBe(false)
  expect(at(6_000)).toBe(true)
})

test('a counter that moves, or another epoch, begins the wait anew', () => {
  const seen = sighted(undefined, row, 5_000)
  expect(sighted(seen, { ...row, renewal: '18' }, 5_900).sinceMs).toBe(5_900)
  expect(sighted(seen, { ...row, epoch: '5' }, 5_900).sinceMs).toBe(5_900)
})

test('a lease given back, or left behind by this very process, is taken at once', () => {
  const options = { me: 'me', nowMs: 5_000, leaseMs }
  const free = { ...row, leader: null }
  const own = { ...row, leader: 'me' }
  expect(mayTake(free, sighted(undefined, free, 5_000), options)).toBe(true)
  expect(mayTake(own, sighted(undefined, own, 5_000), options)).toBe(true)
})

// True time, which nobody in the test sees: each statement is sent, takes effect, is answered.
const renewals = fc.array(fc.record({ waitMs: fc.nat(700), delayMs: fc.nat(900) }), {
  maxLength: 8,
})
const looks = fc.array(fc.record({ waitMs: fc.nat(300), delayMs: fc.nat(400) }), {
  minLength: 30,
  maxLength: 30,
})

type Sent = { sentMs: number; doneMs: number }

function timeline(steps: readonly { waitMs: number; delayMs: number }[]): Sent[] {
  let nowMs = 0
  return steps.map(({ waitMs, delayMs }) => {
    const sentMs = nowMs + waitMs
    nowMs = sentMs + delayMs
    return { sentMs, doneMs: nowMs }
  })
}

/** When the standby's takeover takes effect; undefined when it never dares. `skewMs` is its clock. */
function takeover(leader: Sent[], standby: Sent[], skewMs: number): number | undefined {
  const counterAt = (ms: number) => leader.filter(({ doneMs }) => doneMs <= ms).length
  let seen: Sighting | undefined
  for (const { sentMs, doneMs } of standby) {
    // The row as it was when the look was sent, the clock as it is when the answer is there.
    const found = { ...row, renewal: String(counterAt(sentMs)) }
    seen = sighted(seen, found, doneMs + skewMs)
    if (!mayTake(found, seen, { me: 'me', nowMs: doneMs + skewMs, leaseMs })) continue
    if (String(counterAt(doneMs)) === found.renewal) return doneMs
  }
  return undefined
}

test('whatever the delays, a takeover never comes while the leader counts its lease as held', () => {
  let takeovers = 0
  fc.assert(
    fc.property(renewals, looks, fc.nat(100_000), (renewing, looking, skewMs) => {
      const leader = [{ sentMs: 0, doneMs: 0 }, ...timeline(renewing)]
      const takenMs = takeover(leader, timeline(looking), skewMs)
      if (takenMs === undefined) return
      takeovers += 1
      const renewed = leader.filter(({ doneMs }) => doneMs <= takenMs)
      expect(takenMs).toBeGreaterThanOrEqual((renewed.at(-1)?.sentMs ?? 0) + leaseMs)
    }),
    { numRuns: 3_000 },
  )
  expect(takeovers).toBeGreaterThan(100)
})

test('a server that progress was not made on is refused, and the message says what to do', () => {
  expect(() => checkServer(row)).not.toThrow()
  expect(() => checkServer({ ...row, systemIdentifier: null })).not.toThrow()
  expect(() => checkServer({ ...row, serverIdentifier: '78' })).toThrow(
    expect.objectContaining({
      code: 'foreign_server',
      message: expect.stringMatching(/server 77.*server 78.*set system_identifier = null/),
    }),
  )
})

test('a standby server is refused', () => {
  expect(() => checkServer({ ...row, isStandby: true })).toThrow(
    expect.objectContaining({ code: 'standby_server' }),
  )
})
