import { type AtRest, checkAtRest } from './at-rest.ts'
import { Load } from './load.ts'
import { ProgressWatch } from './progress-watch.ts'
import { seededRandom } from './random.ts'
import { caughtUp, drained } from './recovery.ts'
import type { DrillStack } from './stack.ts'

export type LoadSettings = {
  seed: number
  commandsPerSecond: number
  say: (line: string) => void
}

const restLimitMs = 120_000

/** Does the work under load; then, at rest, checks every promise. */
export async function underLoad<Result>(
  stack: DrillStack,
  { seed, commandsPerSecond, say }: LoadSettings,
  work: () => Promise<Result>,
): Promise<AtRest & { skipped: number; result: Result }> {
  await using watch = new ProgressWatch(stack.writeUrl)
  const load = new Load({
    commandUrl: stack.commandUrl,
    writeUrl: stack.commandRoleUrl,
    random: seededRandom(seed),
    commandsPerSecond,
  })
  await load.start()
  say(`stack up, ${commandsPerSecond} commands a second`)
  const result = await work()
  await load.finish()
  // It would go on writing heartbeats, while everything is being read.
  await stack.services['command-api'].stop()
  await drained(stack, restLimitMs)
  await caughtUp(stack, restLimitMs).catch((error: Error) => say(error.message))
  return { result, skipped: load.skipped, ...(await checkAtRest(stack, { load, watch })) }
}
