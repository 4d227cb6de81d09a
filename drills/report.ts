import type { AtRest } from './at-rest.ts'
import type { Verdict } from './checker.ts'
import type { ControlResult } from './control-run.ts'
import { controls as allControls } from './controls.ts'
import type { DrillResult, InflictedFault, Size } from './drill.ts'
import { schedule } from './faults.ts'
import { promises, type PromiseNumber } from './findings.ts'
import { commandKinds } from './history.ts'
import { seededRandom } from './random.ts'

const relayKillsWanted = 20
const inFlightWanted = 15
/** Not sent, as a part of those sent: beyond it the load was not what is said of it. */
const skippedAllowed = 0.1
/** Of those sent; some are meant to be refused. */
const acceptedWanted = 0.5
const shownPerPromise = 5

/** What a run was told to do. */
type Asked = {
  only?: string | undefined
  withFaults: boolean
  withControls: boolean
}

/** What a run was told to leave out, to stand beside its result; nothing of a whole one. */
export function narrowed({ only, withFaults, withControls }: Asked): string {
  const parts = [
    ...(only === undefined ? [] : [`only '${only}'`]),
    ...(withFaults ? [] : ['without faults']),
    ...(withControls ? [] : ['without controls']),
  ]
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`
}

/** Everything that makes a run a failure, as sentences; none: it passed. */
export function failures(
  drill: DrillResult,
  controls: readonly ControlResult[],
  asked: Asked & { size: Size },
): string[] {
  return [
    ...breaches(drill),
    ...drill.faults
      .filter(({ error }) => error !== undefined)
      .map(({ kind, detail, error }) => `${kind} ${detail}: ${error}`),
    ...controls.filter(({ caught }) => !caught).map(({ name }) => `control not caught: ${name}`),
    ...(asked.withControls ? neverRun(controls) : []),
    ...(drill.unrest === undefined ? [] : [`it did not come to rest: ${drill.unrest}`]),
    ...(asked.withFaults && asked.only === undefined ? missing(drill, asked.size) : []),
  ]
}

type Rest = Omit<AtRest, 'records' | 'quarantined'>

/**
 * What makes a drill that blocks no command a failure, whatever else it does. One that was told to do
 * a part of it may be too short for every kind of command.
 */
export function restFailures(rest: Rest, { only }: Pick<Asked, 'only'>): string[] {
  const { history } = rest
  const accepted = history.filter(({ final }) => final === 'ok').length
  return [
    ...breaches(rest),
    ...neverLookedAt(rest),
    ...notSent(rest),
    ...(accepted < history.length * acceptedWanted || accepted === 0
      ? [`only ${accepted} of ${history.length} commands were accepted`]
      : []),
    ...(only === undefined ? neverAccepted(rest) : []),
  ]
}

function breaches({ verdict: { findings }, unexpected, left }: Rest): string[] {
  return [
    ...(findings.length > 0 ? [`${findings.length} breaches of promises`] : []),
    ...unexpected.map((ending) => `ended by itself: ${ending}`),
    ...left.map((what) => `at rest: ${what}`),
  ]
}

function neverLookedAt({ samples }: Rest): string[] {
  return samples.length > 0 ? [] : ['progress was never looked at: nothing is known of I9']
}

function notSent({ skipped, history }: Rest): string[] {
  if (skipped <= history.length * skippedAllowed) return []
  return [`${skipped} commands not sent, beside ${history.length}`]
}

/** What a run of all faults has to show beside no breach. */
function missing(drill: DrillResult, size: Size): string[] {
  const { total, inFlight } = drill.relayKills
  return [
    ...neverRecovered(drill, size),
    ...(total < relayKillsWanted ? [`only ${total} relay kills`] : []),
    ...(inFlight < inFlightWanted ? [`only ${inFlight} kills hit a batch in flight`] : []),
    ...neverLookedAt(drill),
    ...notSent(drill),
    ...neverAccepted(drill),
  ]
}

/** How many faults of each kind there are follows from the size alone. */
function neverRecovered({ seed, faults }: DrillResult, size: Size): string[] {
  const planned = schedule(seededRandom(seed), size).map(({ kind }) => kind)
  const recovered = faults.filter(({ recoveryMs }) => recoveryMs !== null).map(({ kind }) => kind)
  return [...new Set(planned)].flatMap((kind) => {
    const [wanted, had] = [planned, recovered].map(
      (kinds) => kinds.filter((k) => k === kind).length,
    )
    return had! < wanted! ? [`${kind}: ${had} of ${wanted} inflicted and recovered from`] : []
  })
}

function neverRun(controls: readonly ControlResult[]): string[] {
  return allControls
    .filter(({ name }) => !controls.some((control) => control.name === name))
    .map(({ name }) => `control not run: ${name}`)
}

/** Of a kind that nobody's was accepted of, nothing was shown. */
function neverAccepted({ history }: Rest): string[] {
  return commandKinds
    .filter((kind) => !history.some((entry) => entry.kind === kind && entry.final === 'ok'))
    .map((kind) => `no command ${kind} was accepted`)
}

export function reportLines(drill: DrillResult, controls: readonly ControlResult[]): string[] {
  const { verdict, history, relayKills } = drill
  const { figures } = verdict
  const told = (outcome: string) => history.filter(({ first }) => first === outcome).length
  const accepted = (kind: string) =>
    history.filter((entry) => entry.kind === kind && entry.final === 'ok').length
  const unresolved = history.filter(({ final }) => final === 'unknown').length
  const caught = controls.filter(({ caught: seen }) => seen).length
  return [
    '',
    `seed ${drill.seed}, ${(drill.tookMs / 1_000).toFixed(0)} s`,
    `commands   ${history.length}: ok ${told('ok')}, refused ${told('refused')}, ` +
      `unknown ${told('unknown')} (unresolved ${unresolved}), not sent ${drill.skipped}`,
    `accepted   ${commandKinds.map((kind) => `${kind} ${accepted(kind)}`).join(', ')}`,
    `events     committed ${figures.committed}, delivered ${figures.delivered}, ` +
      `repeated ${figures.repeated}, lost ${figures.lost}, phantom ${figures.phantom}, ` +
      `out of order ${figures.outOfOrder}`,
    `money      drift ${figures.moneyDrift} minor units`,
    `relay      killed ${relayKills.total} times, ${relayKills.inFlight} with a batch in flight`,
    `quarantine ${
      Object.entries(drill.quarantined)
        .map(([code, count]) => `${code} ${count}`)
        .join(', ') || 'nobody'
    }`,
    'recovery, ms from the end of the fault until a command was accepted and read, and with it the',
    'hundred accounts that were written last',
    ...recoveryTable(drill.faults),
    ...controls.map(
      ({ name, caught: seen, broken, why }) =>
        `control    ${name}: ${seen ? 'caught' : 'NOT CAUGHT'} ${why ?? JSON.stringify(broken)}`,
    ),
    `controls   caught ${caught}/${controls.length}`,
    ...breachLines(verdict),
  ]
}

function recoveryTable(faults: readonly InflictedFault[]): string[] {
  const kinds = [...new Set(faults.map(({ kind }) => kind))].toSorted()
  const row = (kind: string, cells: (string | number)[]) =>
    `  ${kind.padEnd(48)}${cells.map((cell) => String(cell).padStart(7)).join('')}`
  return [
    row('fault', ['n', 'p50', 'p99', 'max']),
    ...[...kinds, 'all'].map((kind) => {
      const own = faults.filter((fault) => kind === 'all' || fault.kind === kind)
      const times = own.flatMap(({ recoveryMs }) => (recoveryMs === null ? [] : [recoveryMs]))
      times.sort((a, b) => a - b)
      const at = (part: number) => {
        const time = times[Math.min(times.length - 1, Math.floor(times.length * part))]
        return time === undefined ? '-' : Math.round(time)
      }
      return row(kind, [own.length, at(0.5), at(0.99), at(1)])
    }),
  ]
}

/** What was committed by how much load, and what became of it. */
export function eventsLines({ verdict: { figures }, skipped, history }: Rest): string[] {
  const accepted = history.filter(({ final }) => final === 'ok').length
  return [
    `commands   ${history.length}, accepted ${accepted}, not sent ${skipped}`,
    `events     committed ${figures.committed}, delivered ${figures.delivered}, ` +
      `repeated ${figures.repeated}, lost ${figures.lost}, phantom ${figures.phantom}, ` +
      `out of order ${figures.outOfOrder}`,
  ]
}

/** Each promise, and the first breaches of it. */
export function breachLines({ findings }: Pick<Verdict, 'findings'>): string[] {
  const numbers = Object.keys(promises) as PromiseNumber[]
  return numbers.flatMap((number) => {
    const own = findings.filter(({ promise }) => promise === number)
    if (own.length === 0) return [`${number}         holds: ${promises[number]}`]
    const shown = own.slice(0, shownPerPromise).map(({ what }) => `             ${what}`)
    return [`${number}         BROKEN ${own.length} times: ${promises[number]}`, ...shown]
  })
}
