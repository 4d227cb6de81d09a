import { expect, test } from 'vitest'
import { csvOf, prefersCsv } from './statements-csv.ts'

test.each([
  ['=1+2', "'=1+2"],
  ['+49 30 1234', "'+49 30 1234"],
  ['-cmd', "'-cmd"],
  ['@SUM(A1)', "'@SUM(A1)"],
  ['\t=1', "'\t=1"],
  ['＝1', "'＝1"],
  ['=HYPERLINK("http://x","y")', '"\'=HYPERLINK(""http://x"",""y"")"'],
  ['rent, May', '"rent, May"'],
  ['two\nlines', '"two\nlines"'],
  ['plain - text', 'plain - text'],
])('the text %j is written as %j', (text, written) => {
  expect(csvOf([[text]])).toBe(`${written}\r\n`)
})

test('numbers keep their sign, and nothing is nothing', () => {
  expect(csvOf([[-5n, 3, null, 'x']])).toBe('-5,3,,x\r\n')
})

test.each([
  [undefined, false],
  ['*/*', false],
  ['application/json', false],
  ['text/csv', true],
  ['text/csv; q=0.5, */*;q=0.1', true],
  ['text/csv;q=0.5, application/json', false],
  ['text/csv, */*', true],
  ['text/csv;q=0.5, */*', false],
  ['text/csv;q=0', false],
  ['text/*', true],
])('Accept: %s asks for CSV: %s', (accept, csv) => {
  expect(prefersCsv(accept)).toBe(csv)
})
