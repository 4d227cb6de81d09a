import { checkAtRest } from './at-rest.ts'
import type { Control } from './controls.ts'
import type { Fault } from './faults.ts'
import { repeatOldRecords } from './drill.ts'
import { Load } from './load.ts'
import { ProgressWatch } from './progress-watch.ts'
import { seededRandom } from './random.ts'
import { consumed, drained, recovery } from './recovery.ts'
import { DrillStack, topic } from './stack.ts'

export type ControlResult = {
  name: string
  caught: boolean
  /** How often which promise was found broken. */
  broken: Record<string, number>
  /** Why nothing was shown. */
  why?: string
}

const restLimitMs = 60_000

/**
 * Runs the product with one thing made wrong, kills it a few times, and says whether the checker saw
 * it. The repair of the query side is cut off from its feed, unless the control wants it.
 * One that does not come to rest shows nothing, and counts as not caught.
 */
export async function runControl(control: Control, seed: number): Promise<ControlResult> {
  const random = seededRandom(seed)
  const { service, patches } = control
  await using stack = await DrillStack.start({
    folder: undefined,
    environment: control.repaired ? {} : { 'query-api': { COMMAND_API_URL: '' } },
  })
  await using watch = new ProgressWatch(stack.writeUrl)
  const load = new Load({
    commandUrl: stack.commandUrl,
    writeUrl: stack.commandRoleUrl,
    random: random.fork(),
    commandsPerSecond: 200,
  })
  await load.start()
  const target = stack.services[service]
  // A reader joins its group again only when its predecessor's session is over.
  const patienceMs = patches.some(({ put }) => put.includes('drill.point()')) ? 30_000 : 3_000
  let reached = 0
  for (let kills = 0; kills < 3; kills += 1) {
    target.patchAlways(patches, random.between(5, 40))
    await target.killHard()
    await target.answers()
    const before = target.endings.length
    // A control that kills itself does so by now; one that does not is killed above, at random.
    await target.endingsReach(before + 1, patienceMs).then(
      () => (reached += 1),
      () => {},
    )
  }
  if (patienceMs > 3_000 && reached === 0) {
    return { name: control.name, caught: false, broken: {}, why: 'it never came to its point' }
  }
  // No more kills of its own: what it has made wrong is to be seen at rest.
  target.patchAlways(patches, Number.MAX_SAFE_INTEGER)
  const trouble = control.fault && (await inflictAtWork(stack, load, control.fault))
  await load.finish()
  await stack.services['command-api'].stop()
  // At rest by its own word: what is missing then is not merely late.
  try {
    await drained(stack, restLimitMs)
    await repeatOldRecords(stack, random)
    await consumed(stack, topic, restLimitMs)
  } catch (error) {
    return { name: control.name, caught: false, broken: {}, why: (error as Error).message }
  }
  const { verdict } = await checkAtRest(stack, { load, watch })
  const broken: Record<string, number> = {}
  for (const { promise } of verdict.findings) broken[promise] = (broken[promise] ?? 0) + 1
  const caught = control.breaks.every((promise) => promise in broken)
  const why = caught ? undefined : trouble
  return { name: control.name, caught, broken, ...(why === undefined ? {} : { why }) }
}

/**
 * What is passed over by a process that has read nothing yet are openings, which a gap says all about.
 * Gives what the fault complains of: of what nobody noticed, which the check finds, too.
 */
async function inflictAtWork(
  stack: DrillStack,
  load: Load,
  fault: Fault,
): Promise<string | undefined> {
  const probe = (limitMs: number) => load.probe(limitMs)
  try {
    await recovery(stack, { probe, deadlineMs: restLimitMs })
    await fault.inflict(stack, probe)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}
