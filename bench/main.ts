// npm run bench -- [--only a,b] [--quick] [--rounds N] [--json FILE]
import { writeFileSync } from 'node:fs'
import { type Arguments, type PartLetter, readArguments, usage } from './arguments.ts'
import { measureCatchUp } from './catch-up.ts'
import { measureChangeCapture } from './change-capture.ts'
import { measureDeposits } from './deposits.ts'
import { measureDrain } from './drain.ts'
import { BenchError } from './errors.ts'
import { type Figure, type PartResult, tableOf } from './figures.ts'
import { describeMachine } from './machine.ts'
import { fillOutbox } from './outbox-fill.ts'
import { exitCodeOf, runPart } from './parts.ts'
import { openProgress, type Progress } from './progress.ts'
import { measureReadable } from './readable.ts'
import { startServers } from './servers.ts'

const ofTopic = 'counts and order are right'
const ofLedger = 'counts, order and balances are right'

/** What a part has checked by its end. */
const checkedOf: Readonly<Record<PartLetter, string>> = {
  a: ofTopic,
  b: 'counts, last versions and balances are right',
  c: ofLedger,
  d: ofLedger,
  e: ofTopic,
  f: ofTopic,
}

/** Runs what was asked for, one part after another: side by side they would measure each other. */
async function bench({ parts, ...sizes }: Arguments, progress: Progress) {
  const withKafka = [...parts].some((letter) => letter !== 'd')
  await using servers = await startServers(progress, { withKafka })
  const results: PartResult[] = []
  const part = async (letter: PartLetter, title: string, measure: () => Promise<Figure[]>) => {
    const heading = { part: letter, title, checked: checkedOf[letter] }
    results.push(await runPart(heading, measure, progress))
  }
  const shared = { servers, progress, ...sizes }
  if (parts.has('a') || parts.has('b')) {
    const databases = await servers.databases('bench_stream')
    await fillOutbox(databases.write(), sizes.events, progress)
    if (parts.has('a')) {
      await part('a', 'drain and memory', () => measureDrain({ ...shared, databases }))
    }
    if (parts.has('b')) {
      await part('b', 'projection', () => measureCatchUp({ ...shared, databases }))
    }
  }
  if (parts.has('c')) await part('c', 'commit to readable', () => measureReadable(shared))
  if (parts.has('d')) await part('d', 'commands', () => measureDeposits(shared))
  if (parts.has('f')) {
    await part('f', 'change capture', () => measureChangeCapture(shared))
  }
  return { machine: describeMachine(servers.versions), results }
}

/** Gives the exit code. */
function reported(options: Arguments, outcome: Awaited<ReturnType<typeof bench>>): number {
  const { machine, results } = outcome
  const { parts, jsonFile, ...sizes } = options
  const json = { at: new Date().toISOString(), machine, parts: [...parts], ...sizes, results }
  writeFileSync(jsonFile, `${JSON.stringify(json, null, 2)}\n`)
  const { cores, processor, memoryGb, node, postgres, kafka } = machine
  process.stdout.write(
    `${cores} cores (${processor}), ${memoryGb} GB; Node ${node}, PostgreSQL ${postgres}, ` +
      `Kafka ${kafka}; medians of ${sizes.rounds} rounds\n\n${tableOf(results)}`,
  )
  return exitCodeOf(results)
}

try {
  const options = readArguments(process.argv.slice(2))
  if (options === undefined) process.stdout.write(usage)
  else {
    const write = (text: string) => void process.stderr.write(text)
    const progress = openProgress(() => performance.now(), write)
    process.exitCode = reported(options, await bench(options, progress))
  }
} catch (error) {
  if (!(error instanceof BenchError)) throw error
  process.stderr.write(`${error.code}: ${error.message}\n`)
  process.exitCode = 1
}
