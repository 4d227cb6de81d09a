import { describe } from 'vitest'
import { quickModes } from './test-modes.ts'
import { describePromises } from './test-promises.ts'

describe.each(quickModes)('in mode $name', describePromises)
