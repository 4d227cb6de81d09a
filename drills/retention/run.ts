import { breachLines, eventsLines, restFailures } from '../report.ts'
import type { DrillArguments } from '../switching/run.ts'
import {
  type Answering,
  deliveries,
  type RetentionResult,
  runByAgeAlone,
  runRetention,
} from './retention-drill.ts'

/** `npm run drill -- --retention`: what failed, as sentences. */
export async function drillRetention(given: DrillArguments): Promise<string[]> {
  const { say, withFaults, withControls } = given
  const failed: string[] = []
  if (withFaults) {
    const result = await runRetention(given)
    for (const line of retentionLines(result)) say(line)
    failed.push(...retentionFailures(result, given))
  }
  if (withControls) {
    // Of its own: positions begin anew.
    const { verdict } = await runByAgeAlone({ ...given, folder: undefined })
    const { lost, committed } = verdict.figures
    say(
      `control    drop by age alone: ${lost > 0 ? 'caught' : 'NOT CAUGHT'}, lost ${lost} of ${committed}`,
    )
    if (lost === 0) failed.push('control not caught: drop by age alone')
  }
  return failed
}

/** Of a machine that does other things too, in milliseconds. */
const answerLimitMs = 500

export function retentionFailures(
  result: RetentionResult,
  asked: Pick<DrillArguments, 'only'>,
): string[] {
  const { wrong, stretches } = result
  const late = stretches.flatMap((stretch) =>
    Object.entries(timesOf(result, stretch)).flatMap(([what, times]) => {
      const p99 = at(times, 0.99)
      return p99 <= answerLimitMs ? [] : [`${stretch.name}: ${what} p99 ${p99} ms`]
    }),
  )
  return [...wrong, ...late, ...restFailures(result, asked)]
}

function retentionLines(result: RetentionResult): string[] {
  const { verdict, stretches } = result
  return [
    ...stretches.flatMap((stretch) =>
      Object.entries(timesOf(result, stretch)).map(
        ([what, times]) =>
          `${what.padEnd(10)} ${stretch.name}: ${times.length}, ms p50 ${at(times, 0.5)}, ` +
          `p99 ${at(times, 0.99)}, max ${at(times, 1)}`,
      ),
    ),
    ...eventsLines(result),
    ...breachLines(verdict),
  ]
}

function timesOf({ waits, records }: RetentionResult, stretch: Answering) {
  const { fromMs, toMs } = stretch
  const within = waits.filter(({ sentMs }) => sentMs >= fromMs && sentMs <= toMs)
  return { commands: within.map(({ tookMs }) => tookMs), 'to Kafka': deliveries(records, stretch) }
}

/** Of none it is beyond any limit: nothing answered. */
function at(times: readonly number[], part: number): number {
  const sorted = times.toSorted((a, b) => a - b)
  const found = sorted[Math.min(Math.floor(sorted.length * part), sorted.length - 1)]
  return Math.round(found ?? Infinity)
}
