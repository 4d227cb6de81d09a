import { pause } from 'service/backoff'
import { type AtRest, checkAtRest } from './at-rest.ts'
import type { Verdict } from './checker.ts'
import { type Fault, schedule } from './faults.ts'
import { Load } from './load.ts'
import { ProgressWatch } from './progress-watch.ts'
import { type Random, seededRandom } from './random.ts'
import { caughtUp, consumed, drained, recovery } from './recovery.ts'
import { DrillStack, topic } from './stack.ts'
import { readTopic, repeatRecords } from './topic-reader.ts'

export type Size = 'smoke' | 'standard'
export type Say = (line: string) => void

export type InflictedFault = {
  kind: string
  detail: string
  atMs: number
  /** From its end until the read side had what was committed by then; null when it never had. */
  recoveryMs: number | null
  error?: string
}

export type DrillResult = Omit<AtRest, 'records'> & {
  seed: number
  faults: InflictedFault[]
  /** Relays killed with -9, and how many of them while events were on their way. */
  relayKills: { total: number; inFlight: number }
  /** Why it did not come to rest. */
  unrest?: string
  tookMs: number
}

const recoveryLimitMs = 120_000

/** One run: load throughout, faults one after another, and at rest every promise checked. */
export async function runDrill(options: {
  seed: number
  size: Size
  folder: string | undefined
  say: Say
  only?: string | undefined
  withFaults: boolean
}): Promise<DrillResult> {
  const { seed, size, say, only } = options
  const startedMs = performance.now()
  const random = seededRandom(seed)
  const faultsToDo = schedule(random.fork(), size).filter(
    ({ kind, detail }) =>
      options.withFaults && (only === undefined || `${kind} ${detail}`.includes(only)),
  )
  if (only !== undefined && faultsToDo.length === 0) throw new Error(`no fault is called ${only}`)
  await using stack = await DrillStack.start({ folder: options.folder })
  await using watch = new ProgressWatch(stack.writeUrl)
  const load = new Load({
    commandUrl: stack.commandUrl,
    writeUrl: stack.commandRoleUrl,
    random: random.fork(),
    commandsPerSecond: 200,
  })
  await load.start()
  say(`stack up, load running: ${faultsToDo.length} faults`)
  const pauses = random.fork()
  const faults: InflictedFault[] = []
  for (const fault of faultsToDo) {
    faults.push(await inflict({ stack, load, say }, fault))
    await pause(pauses.between(100, 500))
  }
  await load.finish()
  const unrest = await settle(stack, random)
  if (unrest !== undefined) say(`it does not come to rest: ${unrest}`)
  const atRest = await checkAtRest(stack, { load, watch })
  return {
    ...atRest,
    seed,
    faults,
    relayKills: relayKills(stack, atRest.verdict),
    ...(unrest === undefined ? {} : { unrest }),
    tookMs: performance.now() - startedMs,
  }
}

async function inflict(
  { stack, load, say }: { stack: DrillStack; load: Load; say: Say },
  fault: Fault,
): Promise<InflictedFault> {
  const { kind, detail } = fault
  const atMs = Date.now()
  const at = new Date(atMs).toISOString().slice(11, 23)
  const name = detail === '' ? kind : `${kind} (${detail})`
  try {
    const probe = (limitMs: number) => load.probe(limitMs)
    const healedMs = (await fault.inflict(stack, probe)) ?? performance.now()
    await recovery(stack, { probe, deadlineMs: recoveryLimitMs })
    const recoveryMs = performance.now() - healedMs
    say(`${at} ${name}: recovered in ${Math.round(recoveryMs)} ms`)
    return { kind, detail, atMs, recoveryMs }
  } catch (error) {
    const { message } = error as Error
    say(`${at} ${name}: ${message}`)
    return { kind, detail, atMs, recoveryMs: null, error: message }
  }
}

/**
 * Rest: all applied, then the heartbeats stopped, then some old records once more, as a late zombie
 * sends them; all of it consumed. Says why not.
 */
async function settle(stack: DrillStack, random: Random): Promise<string | undefined> {
  try {
    // With the command side there, from whose feed the read side repairs.
    await caughtUp(stack, recoveryLimitMs)
    await stack.services['command-api'].stop()
    await drained(stack, recoveryLimitMs)
    await repeatOldRecords(stack, random)
    await consumed(stack, topic, recoveryLimitMs)
    await caughtUp(stack, recoveryLimitMs)
    return undefined
  } catch (error) {
    // It would go on writing, while everything is being read.
    await stack.services['command-api'].stop()
    return (error as Error).message
  }
}

/** Copies of records that later ones of their accounts have overtaken. */
export async function repeatOldRecords(stack: DrillStack, random: Random): Promise<void> {
  const records = (await readTopic(stack.brokers, topic)).toSorted(
    (a, b) => a.appendedMs - b.appendedMs,
  )
  const old = records.slice(0, Math.ceil(records.length / 2))
  const some = Array.from({ length: 50 }, () => random.pick(old))
  await repeatRecords(stack.brokers, topic, some)
}

/** Around a kill: what was sent and not yet saved as published was appended first within this. */
const inFlightMs = { before: 2_000, after: 500 }

/**
 * A kill hit something in flight when records that were appended about then are there once more,
 * before the next kill. Records repeated for another reason were appended first at another time.
 */
export function relayKills(
  stack: Pick<DrillStack, 'services'>,
  { figures }: Verdict,
): DrillResult['relayKills'] {
  const kills = stack.services['outbox-relay'].endings
    .filter(({ signal }) => signal === 'SIGKILL')
    .map(({ atMs }) => atMs)
  const hit = kills.filter((killedMs, n) => {
    const nextMs = kills[n + 1] ?? Infinity
    return figures.repeats.some(
      ({ firstMs, atMs }) =>
        firstMs > killedMs - inFlightMs.before &&
        firstMs < killedMs + inFlightMs.after &&
        atMs > killedMs &&
        atMs < nextMs,
    )
  })
  return { total: kills.length, inFlight: hit.length }
}
