import { parseArgs } from 'node:util'
import { EnvironmentInvalid } from 'service/environment'
import { readStackConfig } from './config.ts'
import type { DataFolder } from './data-folder.ts'
import { StackError } from './errors.ts'
import { drainSignal } from './drain-signal.ts'
import { startStack } from './start.ts'
import { openSteps, standardTerminal } from './steps.ts'

const help = `npm start [-- --ephemeral]

Starts PostgreSQL, Kafka and Sluice's three services, follows one account from its command to the
query API, and runs until Ctrl-C, which stops everything and keeps the data.

  --ephemeral   data in a temporary folder, removed at the end
  --help        this text

Variables: SLUICE_DATA_DIR (./.sluice), SLUICE_CACHE_DIR, HOST, AUTH, COMMAND_API_PORT,
QUERY_API_PORT, RELAY_PORT, POSTGRES_PORT, KAFKA_PORT, KAFKA_CONTROLLER_PORT, CONNECT_PORT;
SLUICE_CONNECT=1 starts Kafka Connect too; KAFKA_BROKERS, CONNECT_URL, or MIGRATOR_WRITE_DATABASE_URL
with MIGRATOR_READ_DATABASE_URL, to use servers of your own.
`

const steps = openSteps(standardTerminal(process.env))
let folder: DataFolder | undefined
const signal = drainSignal({
  onDrain: (name) => steps.heading(`\n${name}: stopping; once more kills.`),
  onKill: () => folder?.ledger.killAll(),
})

try {
  const asked = readArguments()
  if (asked.help) {
    process.stdout.write(help)
  } else {
    steps.heading('Sluice')
    await using running = await startStack({
      config: readStackConfig(process.env, asked.ephemeral),
      environment: process.env,
      steps,
      signal,
      onFolder: (opened) => (folder = opened),
    })
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve))
    void running
  }
} catch (error) {
  // A start that was told to stop has stopped, and that is no failure.
  if (!signal.aborted) {
    const expected = error instanceof StackError || error instanceof EnvironmentInvalid
    steps.fail(`\n${expected ? error.message : String((error as Error)?.stack ?? error)}`)
    process.exitCode = 1
  }
}
// Whatever the libraries still hold open is not worth waiting for: all that matters has ended.
process.exit()

function readArguments(): { help: boolean; ephemeral: boolean } {
  try {
    const { values } = parseArgs({
      options: {
        ephemeral: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    return values
  } catch (cause) {
    throw new StackError('arguments_invalid', `${(cause as Error).message}\n\n${help}`, { cause })
  }
}
