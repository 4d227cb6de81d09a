import { pause } from 'service/backoff'
import { StackError } from './errors.ts'

export type WaitOptions = {
  /** What is waited for, as it reads after "waited in vain for". */
  what: string
  deadlineMs?: number
  intervalMs?: number
  signal?: AbortSignal
}

/**
 * Asks `condition` again and again until it gives something other than false, null or undefined,
 * and returns that. A condition that throws has failed for this once: its last error is the cause
 * of `deadline_passed`, which is thrown after `deadlineMs`. An aborted signal throws its reason.
 */
export async function waitUntil<T>(
  condition: () => T | Promise<T>,
  { what, deadlineMs = 10_000, intervalMs = 25, signal }: WaitOptions,
): Promise<Exclude<T, false | null | undefined>> {
  const deadline = performance.now() + deadlineMs
  let lastError: unknown
  for (;;) {
    signal?.throwIfAborted()
    try {
      const found = await condition()
      if (found !== false && found !== null && found !== undefined) {
        return found as Exclude<T, false | null | undefined>
      }
    } catch (error) {
      lastError = error
    }
    if (performance.now() >= deadline) {
      const because = lastError instanceof Error ? ` (last: ${lastError.message})` : ''
      throw new StackError(
        'deadline_passed',
        `waited ${deadlineMs} ms in vain for ${what}${because}`,
        { cause: lastError },
      )
    }
    await pause(intervalMs, signal)
  }
}
