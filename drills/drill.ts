import { pause } from 'service/backoff'
import { check, type Verdict } from './checker.ts'
import { type Fault, schedule } from './faults.ts'
import type { HistoryEntry } from './history.ts'
import { Load } from './load.ts'
import { ProgressWatch } from './progress-watch.ts'
import { type Random, seededRandom } from './random.ts'
import { caughtUp, drained, recovery } from './recovery.ts'
import { DrillStack } from './stack.ts'
import { readTables } from './tables.ts'
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

export type DrillResult = {
  seed: number
  faults: InflictedFault[]
  verdict: Verdict
  history: readonly HistoryEntry[]
  skipped: number
  /** Relays killed with -9, and how many of them while events were on their way. */
  relayKills: { total: number; inFlight: number }
  /** Processes that ended though nobody killed them. */
  unexpected: string[]
  tookMs: number
}

export const topic = 'account-events'
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
  // It would go on writing heartbeats, while everything is being read.
  await stack.services['command-api'].stop()
  await settle(stack, random, say)
  const records = await readTopic(stack.brokers, topic)
  const tables = await readTables(stack)
  const verdict = check({ tables, records, samples: watch.samples, history: load.history })
  return {
    seed,
    faults,
    verdict,
    history: load.history,
    skipped: load.skipped,
    relayKills: relayKills(stack, verdict),
    unexpected: unexpectedEndings(stack),
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
    await fault.inflict(stack)
    const recoveryMs = await recovery(stack, {
      probe: (limitMs) => load.probe(limitMs),
      deadlineMs: recoveryLimitMs,
    })
    say(`${at} ${name}: recovered in ${Math.round(recoveryMs)} ms`)
    return { kind, detail, atMs, recoveryMs }
  } catch (error) {
    const { message } = error as Error
    say(`${at} ${name}: ${message}`)
    return { kind, detail, atMs, recoveryMs: null, error: message }
  }
}

/** Rest: all published, then some old records once more, as a late zombie sends them; all applied. */
async function settle(stack: DrillStack, random: Random, say: Say): Promise<void> {
  try {
    await drained(stack, recoveryLimitMs)
    await repeatOldRecords(stack, random)
    await caughtUp(stack, recoveryLimitMs)
  } catch (error) {
    say(`it does not come to rest: ${(error as Error).message}`)
  }
}

/** Copies of records that later ones of their accounts have overtaken. */
export async function repeatOldRecords(stack: DrillStack, random: Random): Promise<void> {
  const records = await readTopic(stack.brokers, topic)
  const old = records.slice(0, Math.ceil(records.length / 2))
  const some = Array.from({ length: 50 }, () => random.pick(old))
  await repeatRecords(stack.brokers, topic, some)
  await pause(1_000)
}

/** A kill hit something in flight when records are repeated between it and the next kill. */
export function relayKills(
  stack: Pick<DrillStack, 'services'>,
  { figures }: Verdict,
): DrillResult['relayKills'] {
  const kills = stack.services['outbox-relay'].endings
    .filter(({ signal }) => signal === 'SIGKILL')
    .map(({ atMs }) => atMs)
  const repeats = figures.repeatedAtMs
  const hit = kills.filter((killedMs, n) =>
    repeats.some(
      (atMs) => atMs > killedMs && atMs < Math.min(kills[n + 1] ?? Infinity, killedMs + 30_000),
    ),
  )
  return { total: kills.length, inFlight: hit.length }
}

function unexpectedEndings(stack: DrillStack): string[] {
  return stack.processes.flatMap(({ label, endings }) =>
    endings
      .filter(({ signal, code }) => signal !== 'SIGKILL' && code !== 0)
      .map(
        ({ code, signal, atMs }) =>
          `${label}: ${signal ?? code} at ${new Date(atMs).toISOString()}`,
      ),
  )
}
