import type { Verdict } from './checker.ts'
import type { ControlResult } from './control-run.ts'
import type { DrillResult, InflictedFault } from './drill.ts'
import { promises, type PromiseNumber } from './findings.ts'

const relayKillsWanted = 20
const inFlightWanted = 15
const shownPerPromise = 5

/** Everything that makes a run a failure, as sentences; none: it passed. */
export function failures(
  drill: DrillResult,
  controls: readonly ControlResult[],
  whole: boolean,
): string[] {
  const found = drill.verdict.findings.length
  const { total, inFlight } = drill.relayKills
  return [
    ...(found > 0 ? [`${found} breaches of promises`] : []),
    ...drill.faults
      .filter(({ error }) => error !== undefined)
      .map(({ kind, detail, error }) => `${kind} ${detail}: ${error}`),
    ...controls.filter(({ caught }) => !caught).map(({ name }) => `control not caught: ${name}`),
    ...(whole && total < relayKillsWanted ? [`only ${total} relay kills`] : []),
    ...(whole && inFlight < inFlightWanted ? [`only ${inFlight} kills hit a batch in flight`] : []),
    ...drill.unexpected.map((ending) => `ended by itself: ${ending}`),
    ...(drill.unrest === undefined ? [] : [`it did not come to rest: ${drill.unrest}`]),
    ...(whole ? neverAccepted(drill) : []),
  ]
}

const commandKinds = ['open', 'deposit', 'withdraw', 'close', 'transfer'] as const

/** Of a kind that nobody's was accepted of, nothing was shown. */
function neverAccepted({ history }: DrillResult): string[] {
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

/** Each promise, and the first breaches of it. */
export function eventsLine({
  verdict: { figures },
  skipped,
}: {
  verdict: Verdict
  skipped: number
}): string {
  return (
    `events     committed ${figures.committed}, delivered ${figures.delivered}, ` +
    `repeated ${figures.repeated}, lost ${figures.lost}, phantom ${figures.phantom}, ` +
    `out of order ${figures.outOfOrder}; commands not sent ${skipped}`
  )
}

export function breachLines({ findings }: Pick<Verdict, 'findings'>): string[] {
  const numbers = Object.keys(promises) as PromiseNumber[]
  return numbers.flatMap((number) => {
    const own = findings.filter(({ promise }) => promise === number)
    if (own.length === 0) return [`${number}         holds: ${promises[number]}`]
    const shown = own.slice(0, shownPerPromise).map(({ what }) => `             ${what}`)
    return [`${number}         BROKEN ${own.length} times: ${promises[number]}`, ...shown]
  })
}
