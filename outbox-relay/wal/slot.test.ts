import { expect, test } from 'vitest'
import { checkSlot } from './slot.ts'

const slot = { name: 's', walStatus: 'reserved', retainedBytes: 10, confirmedFlush: '0/1' }

test('a slot of which the log is kept is in order', () => {
  for (const walStatus of ['reserved', 'extended']) {
    expect(checkSlot({ ...slot, walStatus }, 's')).toEqual({ ...slot, walStatus })
  }
})

test.each([
  ['that is gone', undefined, /slot s is gone/],
  ['beyond the limit of the server', { ...slot, walStatus: 'unreserved' }, /slot s is unreserved/],
  ['whose log is removed', { ...slot, walStatus: 'lost' }, /slot s is lost/],
  ['that keeps too much log', { ...slot, retainedBytes: 101 }, /given up.* 101 bytes/],
])('a slot %s is lost', (_what, found, message) => {
  expect(() => checkSlot(found, 's', 100)).toThrow(
    expect.objectContaining({ code: 'slot_lost', message: expect.stringMatching(message) }),
  )
})
