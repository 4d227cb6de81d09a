// npm run bench -- [--only a,b] [--quick] [--rounds N] [--json FILE]
import { writeFileSync } from 'node:fs'
import { type Arguments, type PartLetter, readArguments, usage } from './arguments.ts'
import { measureCatchUp } from './catch-up.ts'
import { measureChangeCapture } from './change-capture.ts'
import { measureDeposits } from './deposits.ts'
import { measureDrain } from './drain.ts'
import { BenchError } from './errors.ts'
import { type Figure, type PartResult, tableOf } from './figures.ts'
import { describeMachine, loadPerMinute } from './machine.ts'
import { fillOutbox } from './outbox-fill.ts'
import { openProgress, type Progress } from './progress.ts'
import { measureReadable } from './readable.ts'
import { startServers } from './servers.ts'

/** Runs what was asked for, one part after another: side by side they would measure each other. */
async function bench({ parts, ...sizes }: Arguments, progress: Progress) {
  const withKafka = [...parts].some((letter) => letter !== 'd')
  await using servers = await startServers(progress, { withKafka })
  const results: PartResult[] = []
  const part = async (letter: PartLetter, title: string, measure: () => Promise<Figure[]>) => {
    const before = loadPerMinute()
    const outcome = await measured(measure, progress)
    results.push({ part: letter, title, ...outcome, load: [before, loadPerMinute()] })
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

/** A failure is a result: the other parts still run. */
async function measured(measure: () => Promise<Figure[]>, progress: Progress) {
  try {
    const checked = 'counts and order are right'
    return { figures: await measure(), checked, failed: false }
  } catch (error) {
    const { code = 'unexpected', message } = error as { code?: string; message: string }
    progress.step(`FAILED: ${code}: ${message}`)
    if (!(error instanceof BenchError)) process.stderr.write(`${(error as Error).stack}\n`)
    return { figures: [], checked: `${code}: ${message}`, failed: true }
  }
}

function reported(options: Arguments, outcome: Awaited<ReturnType<typeof bench>>): boolean {
  const { machine, results } = outcome
  const { parts, jsonFile, ...sizes } = options
  const json = { at: new Date().toISOString(), machine, parts: [...parts], ...sizes, results }
  writeFileSync(jsonFile, `${JSON.stringify(json, null, 2)}\n`)
  const { cores, processor, memoryGb, node, postgres, kafka } = machine
  process.stdout.write(
    `${cores} cores (${processor}), ${memoryGb} GB; Node ${node}, PostgreSQL ${postgres}, ` +
      `Kafka ${kafka}; medians of ${sizes.rounds} rounds\n\n${tableOf(results)}`,
  )
  return results.every((result) => !result.failed)
}

try {
  const options = readArguments(process.argv.slice(2))
  if (options === undefined) process.stdout.write(usage)
  else {
    const write = (text: string) => void process.stderr.write(text)
    const progress = openProgress(() => performance.now(), write)
    if (!reported(options, await bench(options, progress))) process.exitCode = 1
  }
} catch (error) {
  if (!(error instanceof BenchError)) throw error
  process.stderr.write(`${error.code}: ${error.message}\n`)
  process.exitCode = 1
}
