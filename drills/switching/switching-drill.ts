import { pause } from 'service/backoff'
import type { AtRest } from '../at-rest.ts'
import { patchEnvironment } from '../service-process.ts'
import { requireNothingLeft } from '../left-behind.ts'
import type { SourcePatch } from '../source-patch.ts'
import { DrillStack } from '../stack.ts'
import type { Load } from '../load.ts'
import { underLoad } from '../under-load.ts'
import { ArmedPlace } from './armed-place.ts'
import { type Direction, directions, nameOf, noHandover, places, placesOf } from './places.ts'
import { Relays } from './relays.ts'
import type { Way } from './repeats.ts'

/**
 * One switch, in which the leader is killed or stopped at one place. At `cancel` it is called off while a
 * transaction keeps it from going on, and the leader is left alone, killed or stopped as it notices.
 */
export type SwitchingCase = Direction & { place: string; signal: Signal | 'nothing' }
export type Signal = 'SIGKILL' | 'SIGSTOP'
type CaseResult = { name: string; fromMs: number; tookMs: number; error?: string }
export type SwitchingResult = AtRest & { cases: CaseResult[]; ways: Way[] }

type Options = { seed: number; folder: string | undefined; say: (line: string) => void }

const commandsPerSecond = 300

const describe = ({ place, signal, ...direction }: SwitchingCase) =>
  `${nameOf(direction)}, ${signal} ${place}`
const cancel = 'at cancel'
const cancelled: readonly SwitchingCase[] = directions
  .filter(({ to }) => to !== 'polling')
  .flatMap((direction) =>
    (['nothing', 'SIGKILL', 'SIGSTOP'] as const).map((signal) => ({
      ...direction,
      place: cancel,
      signal,
    })),
  )

/** All of them, or those with `only` in their names; each direction by itself, so that few have to be undone. */
export function casesOf(only: string | undefined): SwitchingCase[] {
  const all: SwitchingCase[] = directions.flatMap((direction) =>
    placesOf(direction).flatMap((place) =>
      (['SIGKILL', 'SIGSTOP'] as const).map((signal) => ({ ...direction, place, signal })),
    ),
  )
  return [...all, ...cancelled].filter(
    (each) => only === undefined || describe(each).includes(only),
  )
}

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
    // Called off before it begins, the new sender has sent nothing.
    ways.push({ from, to: each.place === cancel ? from : to, fromMs })
    await (each.place === cancel ? runCancelled(drilled, each) : runSwitch(drilled, each))
    return { name, fromMs, tookMs: Date.now() - fromMs }
  } catch (error) {
    armed.disarm()
    for (const relay of [stack.services['outbox-relay'], stack.secondRelay]) relay.kill('SIGCONT')
    return { name, fromMs, tookMs: Date.now() - fromMs, error: (error as Error).message }
  }
}

async function runSwitch(drilled: Drilled, { to, place, signal }: SwitchingCase): Promise<void> {
  const { stack, relays } = drilled
  await withSignal(
    drilled,
    { place, signal },
    {
      act: () => relays.switchTo(to),
      async arrives() {
        await relays.arrives(to)
        await requireNothingLeft(stack)
      },
    },
  )
}

/** With a transaction open that no slot can be made beside, which commits once the switch is off. */
async function runCancelled(drilled: Drilled, { from, to, signal }: SwitchingCase): Promise<void> {
  const { stack, relays, load } = drilled
  await using held = await load.hold()
  await relays.switchTo(to)
  await relays.waitsFor(held.pid)
  await withSignal(
    drilled,
    { place: 'before leave', signal },
    {
      act: () => relays.cancel(),
      async arrives() {
        await relays.stays(from)
        await held.commit()
        await relays.arrives(from)
        await requireNothingLeft(stack)
      },
    },
  )
}

/** What is asked for has the leader come to the place, where the signal meets it. */
export async function withSignal(
  { relays, armed }: Pick<Drilled, 'relays' | 'armed'>,
  { place, signal }: Pick<SwitchingCase, 'place' | 'signal'>,
  { act, arrives }: { act: () => Promise<void>; arrives: () => Promise<void> },
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
