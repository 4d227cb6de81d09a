import type { Log } from './log.ts'
import { EnvironmentInvalid } from './environment.ts'

/**
 * Aborts on the first SIGTERM or SIGINT, so that every loop drains; a second one ends the process
 * at once, for whoever cannot wait.
 */
export function stopSignal(): AbortSignal {
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(1)
      stop.abort(new Error(`stopped by ${name}`))
    })
  }
  return stop.signal
}

/**
 * Ends the process for good after an error that no retry can mend, saying why. Exit code 78 tells
 * a supervisor that the settings are wrong and another start will not help.
 */
export function exitLoudly(error: unknown, log?: Log): never {
  if (error instanceof EnvironmentInvalid) {
    process.stderr.write(`${error.message}\n`)
    process.exit(78)
  }
  if (log === undefined) process.stderr.write(`${String((error as Error)?.stack ?? error)}\n`)
  else log.fatal({ event: 'process_failed', err: error }, (error as Error)?.message)
  process.exit(1)
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
