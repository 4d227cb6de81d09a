import { describe } from 'vitest'
import { known } from './test-modes.ts'
import { describePromises } from './test-promises.ts'

describe('in mode polling', () => {
  describePromises(known.polling)
})
