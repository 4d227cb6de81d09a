import { expect, test } from 'vitest'
import { checkSlot } from './slot.ts'

const slot = {
  name: 's',
  walStatus: 'reserved',
  retainedBytes: 10,
  confirmedFlush: '0/1',
  safeBytes: null,
}

test('a slot of which the log is kept is in order', () => {
  for (const walStatus of ['reserved', 'extended']) {
    expect(checkSlot({ ...slot, walStatus }, 's')).toEqual({ ...slot, walStatus })
  }
})

test('a slot of which a tenth is left before the limit of the server is in order', () => {
  const near = { ...slot, retainedBytes: 90, safeBytes: 10 }
  expect(checkSlot(near, 's')).toEqual(near)
  // As at the end of a segment, under a limit of less than one.
  const none = { ...slot, retainedBytes: 0, safeBytes: 0 }
  expect(checkSlot(none, 's')).toEqual(none)
})

test.each([
  ['that is gone', undefined, /slot s is gone/],
  ['beyond the limit of the server', { ...slot, walStatus: 'unreserved' }, /slot s is unreserved/],
  ['near that limit', { ...slot, retainedBytes: 91, safeBytes: 9 }, /is given up: 9 bytes/],
  ['that the server invalidated', { ...slot, walStatus: 'lost (idle_timeout)' }, /is lost \(idle_/],
  ['that keeps too much log', { ...slot, retainedBytes: 101 }, /given up.* 101 bytes/],
])('a slot %s is lost', (_what, found, message) => {
  expect(() => checkSlot(found, 's', 100)).toThrow(
    expect.objectContaining({ code: 'slot_lost', message: expect.stringMatching(message) }),
  )
})
