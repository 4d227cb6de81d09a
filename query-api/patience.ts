import { type BackoffBounds, backoffMs, pause } from 'service/backoff'

export type Patience = {
  /** Ends the waiting: its reason is thrown. */
  signal: AbortSignal
  /** Errors that go by themselves; any other is thrown at once. */
  passes: (error: unknown) => boolean
  onWait: (wait: { failures: number; waitMs: number; error: unknown }) => void
  /** Told of the success that ends it. */
  onSuccess: () => void
  backoff?: BackoffBounds
}

/** Repeats an attempt, with backoff, for as long as what fails is bound to pass. */
export async function untilItPasses<T>(attempt: () => Promise<T>, patience: Patience): Promise<T> {
  const { signal, passes, onWait, onSuccess, backoff = { firstMs: 50, capMs: 2_000 } } = patience
  for (let failures = 0; ;) {
    signal.throwIfAborted()
    try {
      const result = await attempt()
      onSuccess()
      return result
    } catch (error) {
      if (!passes(error)) throw error
      failures += 1
      const waitMs = Math.round(backoffMs(failures, backoff))
      onWait({ failures, waitMs, error })
      await pause(waitMs, signal)
    }
  }
}
