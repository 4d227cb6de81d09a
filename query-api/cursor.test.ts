import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeCursor, encodeCursor } from './cursor.ts'

const secret = 'a secret of at least 32 characters'
const place = { list: 'accounts', filters: { owner: 'Ada', status: undefined, currency: 'EUR' } }

test('a cursor gives back its position under the same list and filters, in any order', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/), (after) => {
      const cursor = encodeCursor(secret, place, after)
      const same = { list: 'accounts', filters: { currency: 'EUR', owner: 'Ada' } }
      expect(decodeCursor(secret, same, cursor)).toBe(after)
      expect(cursor).toMatch(/^[\w.-]+$/)
    }),
  )
})

test('other filters, another list or another secret refuse it', () => {
  const cursor = encodeCursor(secret, place, 'acc-1')
  const { filters } = place
  expect(decodeCursor(secret, { ...place, filters: { ...filters, owner: 'Bob' } }, cursor)).toBe(
    undefined,
  )
  expect(decodeCursor(secret, { ...place, filters: { owner: 'Ada' } }, cursor)).toBe(undefined)
  expect(decodeCursor(secret, { ...place, list: 'holds' }, cursor)).toBe(undefined)
  expect(decodeCursor(`${secret}!`, place, cursor)).toBe(undefined)
})

test('a cursor changed in any character is refused', () => {
  const cursor = encodeCursor(secret, place, 'acc-1')
  for (let at = 0; at < cursor.length; at += 1) {
    for (const other of ['A', 'B', '9', '.']) {
      if (cursor[at] === other) continue
      const changed = cursor.slice(0, at) + other + cursor.slice(at + 1)
      expect(decodeCursor(secret, place, changed)).toBe(undefined)
    }
  }
  for (const text of ['', '.', 'abc', `${cursor}=`, ` ${cursor}`, `${cursor}\n`]) {
    expect(decodeCursor(secret, place, text)).toBe(undefined)
  }
})
