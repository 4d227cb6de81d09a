import { expect, test } from 'vitest'
import { offsetFault } from './stop-reason.ts'

const id = '00000000-0000-0000-0000-000000000001'
const other = '00000000-0000-0000-0000-000000000002'
const log = { low: 10n, high: 20n }

test.each([
  [10n, undefined],
  [15n, undefined],
  [20n, undefined],
  [9n, 'offset_below_log'],
  [21n, 'offset_beyond_log'],
])('offset %s in a log from 10 to 20: %s', (next, code) => {
  expect(offsetFault({ topicId: id, next }, id, log)?.code).toBe(code)
})

test('an offset of another topic of the same name is never taken, wherever it stands', () => {
  expect(offsetFault({ topicId: other, next: 15n }, id, log)?.code).toBe('topic_recreated')
})
