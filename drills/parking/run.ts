import { breachLines, eventsLines, restFailures } from '../report.ts'
import type { DrillArguments } from '../switching/run.ts'
import { casesOf, type ParkingResult, runAtReadAhead, runParking } from './parking-drill.ts'

/** `npm run drill -- --parking`: what failed, as sentences. */
export async function drillParking(given: DrillArguments): Promise<string[]> {
  const { only, say, withFaults, withControls } = given
  const cases = withFaults ? casesOf(only) : []
  if (withFaults && cases.length === 0) throw new Error(`no case is called ${only}`)
  const failed: string[] = []
  if (withFaults) {
    const result = await runParking(cases, given)
    for (const line of parkingLines(result)) say(line)
    failed.push(...parkingFailures(result, given))
  }
  if (withControls) {
    const { verdict } = await runAtReadAhead({ ...given, folder: undefined })
    const { outOfOrder, committed } = verdict.figures
    const caught = outOfOrder > 0
    const found = `out of order ${outOfOrder} of ${committed}`
    say(`control    park at read-ahead: ${caught ? 'caught' : 'NOT CAUGHT'}, ${found}`)
    if (!caught) failed.push('control not caught: park at read-ahead')
  }
  return failed
}

export function parkingFailures(
  result: ParkingResult,
  asked: Pick<DrillArguments, 'only'>,
): string[] {
  return [
    ...result.cases.flatMap(({ name, error }) =>
      error === undefined ? [] : [`${name}: ${error}`],
    ),
    ...restFailures(result, asked),
  ]
}

function parkingLines(result: ParkingResult): string[] {
  const { cases, verdict } = result
  return [
    `releases   ${cases.length}, each of eight accounts that had more events all the time`,
    ...eventsLines(result),
    ...breachLines(verdict),
  ]
}
