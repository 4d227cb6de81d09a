import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { type ControlResult, runControl } from './control-run.ts'
import { controls } from './controls.ts'
import { runDrill } from './drill.ts'
import { drillParking } from './parking/run.ts'
import { failures, narrowed, reportLines } from './report.ts'
import { drillReplicas } from './replicas/run.ts'
import { drillRetention } from './retention/run.ts'
import { modes } from './switching/places.ts'
import { drillSwitching } from './switching/run.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    /** Switches of the relay's mode instead of all the rest. */
    switching: { type: 'boolean', default: false },
    /** Three relays, leaders killed and frozen, clocks moved, instead of all the rest. */
    replicas: { type: 'boolean', default: false },
    /** What leaves the outbox, and when, instead of all the rest. */
    retention: { type: 'boolean', default: false },
    /** Poison, and what is parked behind it, instead of all the rest. */
    parking: { type: 'boolean', default: false },
    /** Of the three relays. */
    mode: { type: 'string', default: 'polling' },
    smoke: { type: 'boolean', default: false },
    /** Only faults whose name has this in it. */
    only: { type: 'string' },
    /** Keeps data and logs there. */
    folder: { type: 'string' },
    'no-controls': { type: 'boolean', default: false },
    'only-controls': { type: 'boolean', default: false },
  },
})
const say = (line: string) => void process.stdout.write(`${line}\n`)
const seed = values.seed === undefined ? randomInt(1_000_000_000) : Number(values.seed)
const size = values.smoke ? 'smoke' : 'standard'
const { only, folder } = values
const mode = modes.find((each) => each === values.mode)
if (mode === undefined) throw new Error(`there is no mode ${values.mode}`)
const withFaults = !values['only-controls']
const drills = {
  switching: drillSwitching,
  replicas: drillReplicas,
  retention: drillRetention,
  parking: drillParking,
}
const kinds = Object.keys(drills) as (keyof typeof drills)[]
const kind = kinds.find((name) => values[name])
const again = [
  ...kinds.flatMap((name) => (values[name] ? `--${name}` : [])),
  ...(values.smoke ? ['--smoke'] : []),
  ...(mode === 'polling' ? [] : [`--mode ${mode}`]),
  `--seed ${seed}`,
  ...(only === undefined ? [] : [`--only '${only}'`]),
  ...(['no-controls', 'only-controls'] as const).flatMap((name) =>
    values[name] ? `--${name}` : [],
  ),
]
const { KAFKA_PRODUCER } = process.env
const environment = KAFKA_PRODUCER === undefined ? '' : `KAFKA_PRODUCER=${KAFKA_PRODUCER} `
const what = kind ?? size
say(`drill, ${what}: seed ${seed}; again: ${environment}npm run drill -- ${again.join(' ')}`)
const withControls = !values['no-controls']
const given = { seed, only, mode, folder, withFaults, withControls, say }
const failed = kind === undefined ? await drillFaults() : await drills[kind](given)
for (const each of failed) say(`  ${each}`)
say(`${failed.length === 0 ? 'PASSED' : 'FAILED'}${narrowed(given)}`)
process.exitCode = failed.length === 0 ? 0 : 1

/** What failed, as sentences. */
async function drillFaults(): Promise<string[]> {
  const drill = await runDrill({ seed, size, folder, say, only, withFaults })
  const controlled: ControlResult[] = []
  for (const control of withControls ? controls : []) {
    const result = await runControl(control, seed)
    say(`control ${result.name}: ${result.caught ? 'caught' : 'NOT CAUGHT'}`)
    controlled.push(result)
  }
  for (const line of reportLines(drill, controlled)) say(line)
  return failures(drill, controlled, { size, only, withFaults, withControls })
}
