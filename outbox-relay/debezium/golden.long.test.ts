import { testGolden, waysOf } from '../test-golden.ts'
import { known } from '../test-modes.ts'

testGolden(waysOf(known.debezium))
