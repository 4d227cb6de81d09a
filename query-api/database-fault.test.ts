import { expect, test } from 'vitest'
import { databaseFault } from './database-fault.ts'

const withCode = (code: string) => Object.assign(new Error('refused'), { code })

test.each([
  ['40P01', 'passing'],
  ['40001', 'passing'],
  ['57P01', 'passing'],
  ['53300', 'passing'],
  ['08006', 'passing'],
  ['55P03', 'passing'],
  ['ECONNREFUSED', 'passing'],
  ['transaction_timeout', 'passing'],
  ['22P05', 'data'],
  ['23502', 'data'],
  ['54001', 'data'],
  ['42501', 'lasting'],
  ['42P01', 'lasting'],
  ['28P01', 'lasting'],
  ['ERR_ASSERTION', 'lasting'],
])('%s is %s', (code, fault) => {
  expect(databaseFault(withCode(code))).toBe(fault)
})

test("the driver's own failures, which have no code, pass; a fault of ours does not", () => {
  expect(databaseFault(new Error('Connection terminated unexpectedly'))).toBe('passing')
  expect(databaseFault(new Error('timeout exceeded when trying to connect'))).toBe('passing')
  expect(databaseFault(new Error('Query read timeout'))).toBe('passing')
  expect(databaseFault(new TypeError('x is undefined'))).toBe('lasting')
})
