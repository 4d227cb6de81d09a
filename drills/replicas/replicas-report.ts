import { breachLines, eventsLines, restFailures } from '../report.ts'
import { type ReplicasResult, takeoverSlackMs } from './replicas-drill.ts'

export function replicasFailures(
  result: ReplicasResult,
  asked: { only: string | undefined },
): string[] {
  return [
    ...result.cases.flatMap(({ name, wrong }) => wrong.map((what) => `${name}: ${what}`)),
    ...restFailures(result, asked),
  ]
}

export function replicasLines(result: ReplicasResult): string[] {
  const { cases, verdict, leaseMs } = result
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
    ...eventsLines(result),
    ...breachLines(verdict),
  ]
}
