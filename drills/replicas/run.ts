import { cases, clockCases, wallClockLease } from './cases.ts'
import { runReplicas } from './replicas-drill.ts'
import { replicasFailures, replicasLines } from './replicas-report.ts'
import type { DrillArguments } from '../switching/run.ts'

/** `npm run drill -- --replicas`: what failed, as sentences. */
export async function drillReplicas(given: DrillArguments): Promise<string[]> {
  const { only, say, withFaults, withControls } = given
  const leaseMs = Number(process.env.RELAY_LEASE_MS ?? 1_000)
  const chosen = withFaults ? cases.filter(({ name }) => name.includes(only ?? '')) : []
  if (withFaults && chosen.length === 0) throw new Error(`no case is called ${only}`)
  const failed: string[] = []
  if (withFaults) {
    const result = await runReplicas(chosen, { ...given, leaseMs, patches: [] })
    for (const line of replicasLines(result)) say(line)
    failed.push(...replicasFailures(result, given))
  }
  if (withControls) {
    const wrong = await runReplicas(clockCases, { ...given, leaseMs, patches: wallClockLease })
    const caught = wrong.cases.filter((each) => each.wrong.length > 0)
    const whose = ['the leader', 'the standbys'] as const
    const { lost, outOfOrder, repeated } = wrong.verdict.figures
    say(
      `control    lease by the wall clock: caught in ${caught.length} of ${clockCases.length} cases; ` +
        `lost ${lost}, out of order ${outOfOrder}, repeated ${repeated}`,
    )
    if (!whose.every((of) => caught.some(({ name }) => name.includes(of)))) {
      failed.push('control not caught: lease by the wall clock')
    }
  }
  return failed
}
