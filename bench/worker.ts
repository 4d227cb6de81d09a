import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { BenchError } from './errors.ts'

// Everything that makes load or stands as a reference runs in a process of its own, so that neither
// this process's work nor its garbage is measured.

type FromWorker = { tick: string } | { result: unknown } | { failed: string }

export type WorkerOptions = {
  /** Beside this file. */
  file: string
  input: unknown
  nodeFlags?: readonly string[]
  onTick?: (text: string) => void
}

/** Runs a worker to its end and gives what it found. Throws `measurement_failed`. */
export async function runWorker({
  file,
  input,
  nodeFlags = [],
  onTick,
}: WorkerOptions): Promise<unknown> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), {
    execArgv: [...nodeFlags],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const exited = once(child, 'exit')
  let outcome: FromWorker | undefined
  child.on('message', (message: FromWorker) => {
    if ('tick' in message) onTick?.(message.tick)
    else outcome = message
  })
  child.send(input as object)
  await exited
  if (outcome !== undefined && 'result' in outcome) return outcome.result
  const why = outcome !== undefined && 'failed' in outcome ? outcome.failed : 'it ended silently'
  throw new BenchError('measurement_failed', `${file}: ${why}`)
}

/** The other side: call it once in a worker's file. `work` names the input it is sent. */
export async function serveWorker(
  work: (input: never, tick: (text: string) => void) => Promise<unknown>,
): Promise<void> {
  const [input] = (await once(process, 'message')) as [never]
  const send = (message: FromWorker) =>
    new Promise((resolve) => process.send?.(message, undefined, undefined, resolve))
  try {
    await send({ result: await work(input, (tick) => void send({ tick })) })
  } catch (error) {
    await send({ failed: String((error as Error).stack ?? error) })
  }
  process.disconnect()
}
