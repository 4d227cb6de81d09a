import { backoffMs, pause, type BackoffBounds } from 'service/backoff'
import { describeExit, type Child, type Exit } from './child.ts'

export type Death = {
  name: string
  exit: Exit
  /** Deaths in a row, each soon after its start; 1 for the first. */
  inARow: number
  logTail: string
  logFile: string
  /** How long until it is started again. */
  againInMs: number
}

export type SuperviseOptions<Started extends Child> = {
  name: string
  /** Starts it anew; a rejection counts as a death. */
  launch: () => Promise<Started>
  onDeath: (death: Death) => void
  /** Told when a process that had died runs again. */
  onRestart?: (child: Started) => void
  backoff?: BackoffBounds
  /** A process that lived this long had a good start: the backoff begins anew. */
  goodAfterMs?: number
  random?: () => number
}

export type Supervised<Started extends Child = Child> = {
  name: string
  /** What the first launch gave. */
  first: Started
  /** Of the process that runs now; undefined while there is none. */
  readonly pid: number | undefined
  kill(signal: NodeJS.Signals): void
  /** Ends it and starts it no more. */
  stop(): Promise<void>
}

const ourBackoff = { firstMs: 500, capMs: 30_000 }

/**
 * Starts a process, and again whenever it ends without having been told to, with a growing, spread
 * and capped wait between. Throws what the first `launch` throws.
 */
export async function supervise<Started extends Child>(
  options: SuperviseOptions<Started>,
): Promise<Supervised<Started>> {
  const { name, launch, onDeath, onRestart, backoff = ourBackoff, goodAfterMs = 60_000 } = options
  const stopping = new AbortController()
  const first = await launch()
  let child: Started | undefined = first
  const watched = watch()

  async function watch(): Promise<void> {
    let running: Started | undefined = first
    let inARow = 0
    while (running !== undefined) {
      const startedAt = performance.now()
      const exit = await running.exited
      child = undefined
      if (performance.now() - startedAt >= goodAfterMs) inARow = 0
      running = await relaunch(running, exit)
    }

    async function relaunch(dead: Started, exit: Exit): Promise<Started | undefined> {
      let said = { exit, logTail: dead.logTail() }
      while (!stopping.signal.aborted) {
        inARow++
        const againInMs = backoffMs(inARow, backoff, options.random)
        onDeath({ name, inARow, logFile: dead.logFile, againInMs, ...said })
        await pause(againInMs, stopping.signal)
        if (stopping.signal.aborted) return undefined
        try {
          child = await launch()
        } catch (error) {
          said = { exit: { code: null, signal: null }, logTail: (error as Error).message }
          continue
        }
        // A stop that came while it was starting has found no process to end.
        if (stopping.signal.aborted) await child.stop()
        else onRestart?.(child)
        return child
      }
      return undefined
    }
  }

  return {
    name,
    first,
    get pid() {
      return child?.pid
    },
    kill: (signal) => child?.kill(signal),
    async stop() {
      stopping.abort()
      await child?.stop()
      await watched
    },
  }
}

/** One paragraph for the person at the terminal. */
export function describeDeath({ name, exit, logTail, logFile, againInMs }: Death): string {
  const how = exit.code === null && exit.signal === null ? 'did not start' : 'died'
  const detail = how === 'died' ? ` (${describeExit(exit)})` : ''
  const again = `started again in ${(againInMs / 1_000).toFixed(1)} s`
  const tail = logTail === '' ? '' : `; the end of ${logFile}:\n${logTail}`
  return `${name} ${how}${detail}, ${again}${tail}`
}
