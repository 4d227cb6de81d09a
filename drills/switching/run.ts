import { casesOf, type SwitchingCase } from './cases.ts'
import type { Mode } from './places.ts'
import { runSwitching, runWithoutHandover } from './switching-drill.ts'
import { switchingFailures, switchingLines } from './switching-report.ts'

export type DrillArguments = {
  seed: number
  only: string | undefined
  /** Of the relays, where the drill has one. */
  mode: Mode
  folder: string | undefined
  withFaults: boolean
  withControls: boolean
  say: (line: string) => void
}

/** `npm run drill -- --switching`: what failed, as sentences. */
export async function drillSwitching(given: DrillArguments): Promise<string[]> {
  const { only, say, withFaults, withControls } = given
  const cases: SwitchingCase[] = withFaults ? casesOf(only) : []
  if (withFaults && cases.length === 0) throw new Error(`no switch is called ${only}`)
  const failed: string[] = []
  if (withFaults) {
    const result = await runSwitching(cases, given)
    for (const line of switchingLines(result)) say(line)
    failed.push(...switchingFailures(result, given))
  }
  if (withControls) {
    const { verdict } = await runWithoutHandover(given)
    const caught = verdict.figures.lost > 0
    const lost = `lost ${verdict.figures.lost} of ${verdict.figures.committed}`
    say(`control    switch without handover: ${caught ? 'caught' : 'NOT CAUGHT'}, ${lost}`)
    if (!caught) failed.push('control not caught: switch without handover')
  }
  return failed
}
