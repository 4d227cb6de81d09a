/** Bounds of a wait that grows with each failure in a row. */
export type BackoffBounds = { firstMs: number; capMs: number }

/**
 * How long to wait after the nth failure in a row (n from 1): doubling up to the cap, then spread
 * over its upper half, so that those who failed together do not come back together.
 */
export function backoffMs(failures: number, bounds: BackoffBounds, random = Math.random): number {
  const full = Math.min(bounds.capMs, bounds.firstMs * 2 ** Math.min(failures - 1, 30))
  return full / 2 + (full / 2) * random()
}

/** Resolves after `ms`, or at once when the signal aborts. Never rejects. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done, { once: true })
  })
}

/**
 * Resolves when `work` has settled, whichever way, or after `limitMs`. Leaves no timer behind: one
 * would keep the process alive for the rest of the limit.
 */
export async function settledWithin(work: Promise<unknown>, limitMs: number): Promise<void> {
  const settled = new AbortController()
  const end = () => settled.abort()
  work.then(end, end)
  await pause(limitMs, settled.signal)
}

/** The promise's outcome, or the signal's reason as soon as it aborts. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const abort = () => reject(signal.reason as Error)
  signal.addEventListener('abort', abort, { once: true })
  work.catch(() => {}) // When the abort comes first, nobody is left to hear of a later failure.
  try {
    if (signal.aborted) abort()
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
