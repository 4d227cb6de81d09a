import { expect, test } from 'vitest'
import { errorFields } from './log.ts'

test('an error is logged by name, code, message, stack and cause, and by nothing else of it', () => {
  const cause = Object.assign(new Error('inner'), { code: 'ECONNRESET', secret: 'x' })
  const fields = errorFields(Object.assign(new Error('outer', { cause }), { detail: 'the row' }))
  expect(fields).toMatchObject({
    message: 'outer',
    cause: { code: 'ECONNRESET', message: 'inner' },
  })
  expect(Object.keys(fields).toSorted()).toEqual(['cause', 'message', 'stack', 'type'])
})

test('a data error of PostgreSQL keeps its code, and loses the text that quotes the data', () => {
  const text = 'date/time field value out of range: "secret"'
  const fields = errorFields(Object.assign(new Error(text), { code: '22008' }))
  expect(fields.code).toBe('22008')
  expect(JSON.stringify(fields)).not.toContain('secret')
})

test('what is thrown and is no error is said as it is', () => {
  expect(errorFields('text')).toEqual({ type: 'string', message: 'text' })
})
