import { breachLines } from '../report.ts'
import { type ReplicasResult, takeoverSlackMs } from './replicas-drill.ts'

export function replicasFailures({ cases, verdict }: ReplicasResult): string[] {
  const { findings } = verdict
  return [
    ...cases.flatMap(({ name, wrong }) => wrong.map((what) => `${name}: ${what}`)),
    ...(findings.length > 0 ? [`${findings.length} breaches of promises`] : []),
  ]
}

export function replicasLines({ cases, verdict, leaseMs, skipped }: ReplicasResult): string[] {
  const { figures } = verdict
  const takeovers = cases.flatMap(({ takeover }) => takeover ?? [])
  const line = (what: string, times: number[]) => {
    times.sort((a, b) => a - b)
    const at = (time: number | undefined) => (time === undefined ? '-' : Math.round(time))
    return `${what} ${times.length}, ms p50 ${at(times[times.length >> 1])}, max ${at(times.at(-1))}`
  }
  return [
    line(
      'takeovers ',
      takeovers.map((each) => each.leaseMs),
    ) + `, lease ${leaseMs}, at most ${leaseMs + takeoverSlackMs}`,
    line(
      'sending   ',
      takeovers.map((each) => each.sendingMs),
    ),
    `events     committed ${figures.committed}, delivered ${figures.delivered}, ` +
      `repeated ${figures.repeated}, lost ${figures.lost}, phantom ${figures.phantom}, ` +
      `out of order ${figures.outOfOrder}; commands not sent ${skipped}`,
    ...breachLines(verdict),
  ]
}
