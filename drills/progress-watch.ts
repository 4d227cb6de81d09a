import { pause } from 'service/backoff'
import type { ProgressSample } from './delivery-check.ts'
import { readProgress } from './tables.ts'

/** Notes again and again what the relay says is published; the topic will tell whether it was true. */
export class ProgressWatch {
  readonly samples: ProgressSample[] = []
  readonly #stop = new AbortController()
  readonly #watching: Promise<void>

  constructor(writeUrl: string, intervalMs = 100) {
    this.#watching = this.#watch(writeUrl, intervalMs)
  }

  async #watch(writeUrl: string, intervalMs: number): Promise<void> {
    let last = ''
    while (!this.#stop.signal.aborted) {
      try {
        const progress = await readProgress(writeUrl)
        const atMs = Date.now()
        const state = `${progress.next} ${progress.gaps.join()}`
        // The earliest of equal ones says all.
        if (state !== last) this.samples.push({ ...progress, atMs })
        last = state
      } catch {
        // PostgreSQL is away, as the schedule says.
      }
      await pause(intervalMs, this.#stop.signal)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await this.#watching
  }
}
