import { inject } from 'vitest'
import { StackError } from './errors.ts'

/**
 * The address of the run's Kafka Connect, which reads any test's database and writes to the run's
 * Kafka; started now if no test has asked before. All tests share it: give connectors and slots names
 * of your own, and remove them.
 */
export async function testConnect(): Promise<string> {
  const starter = inject('connectStarter')
  if (starter === '') {
    throw new StackError(
      'config_invalid',
      'only tests named *.kafka.test.ts and *.long.test.ts are given a Connect',
    )
  }
  const response = await fetch(starter, { signal: AbortSignal.timeout(110_000) })
  const said = await response.text()
  if (response.ok) return said
  throw new StackError('connect_start_failed', said)
}
