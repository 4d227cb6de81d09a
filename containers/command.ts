import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { ContainersError } from './errors.ts'

export const repository = fileURLToPath(new URL('..', import.meta.url))

export type CommandOptions = {
  environment?: NodeJS.ProcessEnv
  signal?: AbortSignal
  timeoutMs: number
}

const keptCharacters = 64 * 1024
const shownLines = 40
const graceMs = 60_000

/**
 * Runs a command to its end and returns its standard output, of which the last 64 kB are kept.
 * Throws `command_failed` with the end of what it said when it cannot be started, fails or takes
 * longer than `timeoutMs`; an aborted signal's reason when that ended it.
 */
export async function runCommand(
  [program = '', ...args]: readonly string[],
  { environment = process.env, signal, timeoutMs }: CommandOptions,
): Promise<string> {
  signal?.throwIfAborted()
  const child = spawn(program, args, {
    cwd: repository,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
    // Its own group: Ctrl-C reaches it through us alone, once, so that it can end in order.
    detached: true,
  })
  let said = ''
  let stdout = ''
  const keep = (text: string, more: string) => (text + more).slice(-keptCharacters)
  child.stdout.setEncoding('utf8').on('data', (more: string) => {
    stdout = keep(stdout, more)
    said = keep(said, more)
  })
  child.stderr.setEncoding('utf8').on('data', (more: string) => (said = keep(said, more)))
  const name = [program, ...args].join(' ')
  const timeout = AbortSignal.timeout(timeoutMs)
  const how = await endOf(child, AbortSignal.any([timeout, ...(signal ? [signal] : [])]))
  signal?.throwIfAborted()
  if (how === 'exit code 0') return stdout
  const reason = timeout.aborted ? `took longer than ${timeoutMs / 1_000} s` : how
  const end = said.trimEnd().split('\n').slice(-shownLines).join('\n')
  throw new ContainersError('command_failed', `${name}: ${reason}${end === '' ? '' : `\n${end}`}`)
}

/** How it ended; when the signal aborts first, it is asked to end, and after a minute made to. */
function endOf(child: ReturnType<typeof spawn>, signal: AbortSignal): Promise<string> {
  return new Promise((resolve) => {
    let kill: NodeJS.Timeout | undefined
    const ask = () => {
      child.kill('SIGINT')
      kill = setTimeout(() => killGroup(child.pid), graceMs)
    }
    const end = (how: string) => {
      clearTimeout(kill)
      signal.removeEventListener('abort', ask)
      resolve(how)
    }
    signal.addEventListener('abort', ask, { once: true })
    if (signal.aborted) ask()
    child.once('error', (error) => end(error.message))
    child.once('close', (code, by) => end(by === null ? `exit code ${code}` : `ended by ${by}`))
  })
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
