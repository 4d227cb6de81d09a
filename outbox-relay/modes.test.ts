import { expect, test } from 'vitest'
import { modeWanted, whyNot } from './modes.ts'

const row = (mode: string, modeVariable: string | null) => ({ mode, modeVariable })

test.each([
  ['nothing asked: the row decides', row('wal', null), undefined, 'wal', false],
  ['asked for the first time', row('polling', null), 'wal', 'wal', true],
  ['asked as before: nothing is asked', row('wal', 'wal'), 'wal', 'wal', false],
  ['asked as before, and switched meanwhile', row('polling', 'wal'), 'wal', 'polling', false],
  ['asked otherwise than before', row('wal', 'wal'), 'polling', 'polling', true],
  ['asked no more: the row decides', row('wal', 'polling'), undefined, 'wal', false],
] as const)('%s', (...[, found, variable, mode, asked]) => {
  expect(modeWanted(found, variable)).toEqual({ mode, asked })
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
