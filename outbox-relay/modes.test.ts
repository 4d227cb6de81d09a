import { expect, test } from 'vitest'
import { askedBy, whyNot } from './modes.ts'

test.each([
  ['given for the first time: it asks', null, 'wal', 'wal'],
  ['as it was: nothing is asked, whatever was switched meanwhile', 'wal', 'wal', undefined],
  ['another than before: it asks', 'wal', 'polling', 'polling'],
  ['not given any more: nothing is asked', 'polling', undefined, undefined],
] as const)('RELAY_MODE %s', (_what, modeVariable, variable, asked) => {
  expect(askedBy(variable, { modeVariable })).toBe(asked)
})

test('a mode says what it is missing', () => {
  const [url, connect] = ['postgres://cdc@127.0.0.1/write', 'http://127.0.0.1:28083']
  const nothing = { CDC_DATABASE_URL: undefined, CONNECT_URL: undefined }
  const withUrl = { CDC_DATABASE_URL: url, CONNECT_URL: undefined }
  const all = { CDC_DATABASE_URL: url, CONNECT_URL: connect }
  expect(whyNot('polling', nothing)).toBeUndefined()
  expect(whyNot('wal', nothing)).toMatch(/CDC_DATABASE_URL/)
  expect(whyNot('wal', withUrl)).toBeUndefined()
  expect(whyNot('debezium', withUrl)).toMatch(/CONNECT_URL/)
  expect(whyNot('debezium', all)).toBeUndefined()
})
