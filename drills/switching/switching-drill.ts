import { pause } from 'service/backoff'
import type { AtRest } from '../at-rest.ts'
import { requireNothingLeft } from '../left-behind.ts'
import type { Load } from '../load.ts'
import { patchEnvironment } from '../service-process.ts'
import type { SourcePatch } from '../source-patch.ts'
import { DrillStack } from '../stack.ts'
import { underLoad } from '../under-load.ts'
import { ArmedPlace } from './armed-place.ts'
import { describe, type SwitchingCase } from './cases.ts'
import { type Mode, noHandover, places } from './places.ts'
import { Relays } from './relays.ts'
import type { Way } from './repeats.ts'

type CaseResult = { name: string; fromMs: number; tookMs: number; error?: string }
export type SwitchingResult = AtRest & { cases: CaseResult[]; ways: Way[] }

type Options = { seed: number; folder: string | undefined; say: (line: string) => void }

const commandsPerSecond = 300

/** Switches under load, the leader killed or stopped in each, and at rest every promise checked. */
export function runSwitching(
  cases: readonly SwitchingCase[],
  options: Options,
): Promise<SwitchingResult> {
  return withTwoRelays(places, options, async (drilled) => {
    const results: CaseResult[] = []
    for (const [n, each] of cases.entries()) {
      const result = await runCase(drilled, each)
      const outcome = result.error ?? `${Math.round(result.tookMs)} ms`
      options.say(`${n + 1}/${cases.length} ${result.name}: ${outcome}`)
      results.push(result)
    }
    return results
  })
}

/** Switches to a connector that takes over before anything was handed to it: events must be missed. */
export async function runWithoutHandover(options: Options): Promise<SwitchingResult> {
  return withTwoRelays(noHandover, options, async ({ relays }) => {
    for (let times = 0; times < 3; times += 1) {
      for (const mode of ['debezium', 'polling'] as const) {
        await relays.switchTo(mode)
        await relays.arrives(mode)
        await pause(2_000)
      }
    }
    return []
  })
}

type Drilled = {
  stack: DrillStack
  relays: Relays
  armed: ArmedPlace
  load: Load
  /** What was asked for so far. */
  ways: Way[]
}

async function withTwoRelays(
  patches: readonly SourcePatch[],
  { seed, folder, say }: Options,
  work: (drilled: Drilled) => Promise<CaseResult[]>,
): Promise<SwitchingResult> {
  using armed = new ArmedPlace()
  const relay = { ...patchEnvironment(patches, 0), ...armed.environment }
  const environment = { 'outbox-relay': relay }
  await using stack = await DrillStack.start({ folder, connect: true, environment })
  await stack.secondRelay.start()
  const relays = new Relays(stack)
  const ways: Way[] = []
  const { result, ...atRest } = await underLoad(stack, { seed, commandsPerSecond, say }, (load) =>
    work({ stack, relays, armed, load, ways }),
  )
  return { cases: result, ways, ...atRest }
}

async function runCase(drilled: Drilled, each: SwitchingCase): Promise<CaseResult> {
  const { stack, armed, relays, ways } = drilled
  const name = describe(each)
  const { from, to } = each
  let fromMs = Date.now()
  try {
    const at = await relays.mode()
    if (at !== from) ways.push({ from: at, to: from, fromMs })
    await relays.switchTo(from)
    await relays.arrives(from)
    fromMs = Date.now()
    ways.push({ from, to: begun(each) ? to : from, fromMs })
    await run(drilled, each)
    return { name, fromMs, tookMs: Date.now() - fromMs }
  } catch (error) {
    armed.disarm()
    for (const relay of [stack.services['outbox-relay'], stack.secondRelay]) relay.kill('SIGCONT')
    return { name, fromMs, tookMs: Date.now() - fromMs, error: (error as Error).message }
  }
}

/** Whether the new sender may send: called off before it begins, it has sent nothing. */
function begun({ calledOff }: SwitchingCase): boolean {
  return calledOff === undefined || (typeof calledOff === 'object' && calledOff.at === 'at begin')
}

function run(drilled: Drilled, each: SwitchingCase): Promise<void> {
  if (each.calledOff === undefined) return runSwitch(drilled, each)
  if (each.calledOff === 'beside a transaction') return runBesideTransaction(drilled, each)
  return runCalledOff(drilled, each, each.calledOff.at)
}

async function runSwitch(drilled: Drilled, each: SwitchingCase): Promise<void> {
  const { relays } = drilled
  await withSignal(drilled, each, {
    act: () => relays.switchTo(each.to),
    arrives: () => arrivesAlone(drilled, each.to),
  })
}

/** With a transaction open that no slot can be made beside, which commits once the switch is off. */
async function runBesideTransaction(drilled: Drilled, each: SwitchingCase): Promise<void> {
  const { relays, load } = drilled
  await using held = await load.hold()
  await relays.switchTo(each.to)
  await relays.waitsFor(held.pid)
  await withSignal(drilled, each, {
    act: () => relays.cancel(),
    async arrives() {
      await relays.stays(each.from)
      await held.commit()
      await arrivesAlone(drilled, each.from)
    },
  })
}

/** The leader is held right before the action, for less than its lease, until it is called off. */
async function runCalledOff(drilled: Drilled, each: SwitchingCase, at: string): Promise<void> {
  const { relays, armed } = drilled
  const leader = await relays.leader()
  armed.arm(at, 'SIGSTOP')
  await relays.switchTo(each.to)
  await armed.reached()
  await withSignal(drilled, each, {
    async act() {
      await relays.cancel(leader)
      leader.kill('SIGCONT')
    },
    async arrives() {
      await relays.stays(each.from)
      await arrivesAlone(drilled, each.from)
    },
  })
}

/** The mode sends, with nothing left of any other, nor of an earlier leader. */
async function arrivesAlone({ relays, stack }: Drilled, mode: Mode): Promise<void> {
  await relays.arrives(mode)
  await requireNothingLeft(stack)
}

/** What is done, and what is waited for then. */
export type Act = { act: () => Promise<void>; arrives: () => Promise<void> }

/** What is asked for has the leader come to the place, where the signal meets it. */
export async function withSignal(
  { relays, armed }: Pick<Drilled, 'relays' | 'armed'>,
  { place, signal }: Pick<SwitchingCase, 'place' | 'signal'>,
  { act, arrives }: Act,
): Promise<void> {
  const leader = await relays.leader()
  const killed = leader.endings.length + 1
  if (signal === 'SIGKILL') leader.mayKillItself()
  if (signal !== 'nothing') armed.arm(place, signal)
  await act()
  if (signal !== 'nothing') await armed.reached()
  if (signal === 'SIGKILL') await leader.endingsReach(killed)
  await arrives()
  // Whoever slept through all that wakes up, and goes on with what it was about to do.
  leader.kill('SIGCONT')
  await leader.answers()
  await pause(500)
  await arrives()
}
