import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { boundLogFile, logTail, openLogFile } from './log-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'sluice-log-'))
afterAll(() => rmSync(folder, { recursive: true }))

test('the tail is of the lines after a point, and of the last of them', () => {
  const path = join(folder, 'a/one.log')
  openLogFile(path)
  appendFileSync(path, 'old\n')
  const { size } = openLogFile(path)
  appendFileSync(path, 'new 1\nnew 2\nnew 3\n')
  expect(logTail(path, { from: size })).toBe('new 1\nnew 2\nnew 3')
  expect(logTail(path, { from: size, lines: 2 })).toBe('new 2\nnew 3')
})

test('a log that is not there has an empty tail', () => {
  expect(logTail(join(folder, 'none.log'))).toBe('')
})

test('a log that is too long moves aside, and its writer goes on at the start', () => {
  const path = join(folder, 'long.log')
  const { descriptor } = openLogFile(path)
  writeSync(descriptor, 'x'.repeat(100))
  boundLogFile(path, 100)
  expect(readFileSync(path, 'utf8')).toHaveLength(100)
  boundLogFile(path, 99)
  expect(readFileSync(`${path}.1`, 'utf8')).toHaveLength(100)
  writeSync(descriptor, 'after')
  expect(readFileSync(path, 'utf8')).toBe('after')
  expect(logTail(path, { from: 100 })).toBe('after')
})
