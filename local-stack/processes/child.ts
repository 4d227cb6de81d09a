import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync } from 'node:fs'
import { pause } from 'service/backoff'
import { StackError } from '../errors.ts'
import { logTail, openLogFile } from './log-file.ts'
import type { ProcessLedger, Tier } from './process-ledger.ts'

export type Exit = { code: number | null; signal: NodeJS.Signals | null }

/** Signals to send in turn, each with how long it is given to work. */
export type StopStep = { signal: NodeJS.Signals; waitMs: number }

export type ChildOptions = {
  name: string
  tier: Tier
  command: string
  args: string[]
  cwd: string
  env: NodeJS.ProcessEnv
  /** Run as this user; only root can ask for it. */
  user?: { uid: number; gid: number } | undefined
  logFile: string
  ledger: ProcessLedger
  stopSteps: StopStep[]
}

export type Child = {
  name: string
  pid: number
  logFile: string
  /** Resolves once it has ended, however that came; never rejects. */
  exited: Promise<Exit>
  /** Sends a signal; nothing happens when it has ended. */
  kill(signal: NodeJS.Signals): void
  /** Ends it gently, then by force; resolves when it has ended. May be called again. */
  stop(): Promise<void>
  /** The last lines that this very process logged. */
  logTail(): string
}

/**
 * Starts a process in a process group of its own, so that a terminal's Ctrl-C reaches only us and
 * we can drain in order. Throws `spawn_failed` when the program cannot be run.
 */
export async function startChild(options: ChildOptions): Promise<Child> {
  const { name, tier, command, args, cwd, env, user, logFile, ledger, stopSteps } = options
  const log = openLogFile(logFile)
  const child = spawn(command, args, {
    cwd,
    env: { ...env, ...ledger.mark },
    detached: true,
    stdio: ['ignore', log.descriptor, log.descriptor],
    ...user,
  })
  closeSync(log.descriptor)
  const { pid } = child
  if (pid === undefined) {
    const [cause] = (await once(child, 'error')) as [Error]
    throw new StackError('spawn_failed', `${name} cannot be run: ${cause.message}`, { cause })
  }
  ledger.add({ name, tier, pid })
  let ended = false
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      ended = true
      ledger.remove(pid)
      resolve({ code, signal })
    })
  })
  const kill = (signal: NodeJS.Signals) => {
    if (!ended) child.kill(signal)
  }
  return {
    name,
    pid,
    logFile,
    exited,
    kill,
    async stop() {
      for (const { signal, waitMs } of stopSteps) {
        if (ended) return
        kill(signal)
        const waiting = new AbortController()
        await Promise.race([exited, pause(waitMs, waiting.signal)])
        waiting.abort()
      }
      // SIGKILL cannot be refused, but a process in an uninterruptible wait takes its time.
      await exited
    },
    logTail: () => logTail(logFile, { from: log.size }),
  }
}

/**
 * Runs a program to its end, or until the signal aborts, whose reason is then thrown. Resolves with
 * what went wrong, as a sentence with the end of its output; undefined when nothing did.
 */
export async function runTool(
  options: Omit<ChildOptions, 'tier' | 'stopSteps'>,
  signal?: AbortSignal,
): Promise<string | undefined> {
  signal?.throwIfAborted()
  const stopSteps: StopStep[] = [
    { signal: 'SIGTERM', waitMs: 5_000 },
    { signal: 'SIGKILL', waitMs: 5_000 },
  ]
  const tool = await startChild({ ...options, tier: 'tool', stopSteps })
  const stop = () => void tool.stop()
  signal?.addEventListener('abort', stop)
  const exit = await tool.exited
  signal?.removeEventListener('abort', stop)
  signal?.throwIfAborted()
  if (exit.code === 0) return undefined
  return `${tool.name} failed (${describeExit(exit)}); the end of ${tool.logFile}:\n${tool.logTail()}`
}

/** How a process ended, for a sentence: `exit code 1`, `signal SIGKILL`. */
export function describeExit({ code, signal }: Exit): string {
  return signal === null ? `exit code ${code}` : `signal ${signal}`
}
