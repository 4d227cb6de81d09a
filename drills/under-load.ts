import { type AtRest, checkAtRest } from './at-rest.ts'
import { Load } from './load.ts'
import { ProgressWatch } from './progress-watch.ts'
import { seededRandom } from './random.ts'
import { caughtUp, drained } from './recovery.ts'
import type { DrillStack } from './stack.ts'

export type LoadSettings = {
  seed: number
  commandsPerSecond: number
  /** Rows leave the queue, so that the ledger tells what was in it; of heartbeats it does not. */
  retired?: boolean
  say: (line: string) => void
}

const restLimitMs = 120_000

/** Does the work under load; then, at rest, checks every promise. */
export async function underLoad<Result>(
  stack: DrillStack,
  { seed, commandsPerSecond, retired = false, say }: LoadSettings,
  work: (load: Load) => Promise<Result>,
): Promise<AtRest & { result: Result }> {
  await using watch = new ProgressWatch(stack.writeUrl)
  const load = new Load({
    commandUrl: stack.commandUrl,
    writeUrl: stack.commandRoleUrl,
    random: seededRandom(seed),
    commandsPerSecond,
  })
  await load.start()
  say(`stack up, ${commandsPerSecond} commands a second`)
  const result = await work(load)
  await load.finish()
  // It would go on writing heartbeats, while everything is being read.
  await stack.services['command-api'].stop()
  await drained(stack, restLimitMs)
  await caughtUp(stack, restLimitMs).catch((error: Error) => say(error.message))
  return { result, ...(await checkAtRest(stack, { load, watch, retired })) }
}
