import { testGolden, waysOf } from './test-golden.ts'
import { quickModes } from './test-modes.ts'

testGolden(quickModes.flatMap(waysOf))
