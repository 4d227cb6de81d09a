export type DrainOptions = {
  onDrain: (signalName: string) => void
  /** Has to end everything without waiting; the process exits right after. */
  onKill: () => void
  now?: () => number
}

// Under npm one Ctrl-C arrives twice: from the terminal, and passed on by npm.
const sameKeyPressMs = 400

/** Aborts at the first SIGINT, SIGTERM or SIGHUP; a second one kills and exits with code 1. */
export function drainSignal({
  onDrain,
  onKill,
  now = performance.now.bind(performance),
}: DrainOptions) {
  const drain = new AbortController()
  let firstAt = 0
  // The terminal may be gone (SIGHUP): then nobody reads, and draining goes on all the same.
  process.stdout.on('error', () => {})
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (!drain.signal.aborted) {
        firstAt = now()
        onDrain(name)
        drain.abort(new Error(`stopped by ${name}`))
      } else if (now() - firstAt > sameKeyPressMs) {
        onKill()
        process.exit(1)
      }
    })
  }
  return drain.signal
}
