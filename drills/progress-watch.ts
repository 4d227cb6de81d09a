import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { ProgressSample } from './delivery-check.ts'
import { isAway } from './sql.ts'
import { type ProgressRow, progressOf, progressText } from './tables.ts'

/** Progress as it was saved, and under whose epoch it was by then. */
export type LedSample = ProgressSample & { epoch: string }

/**
 * Notes again and again what the relay says is published; the topic will tell whether it was true.
 * Over a connection that stays, and dated in the statement itself: a look that took its time would
 * be dated after the lie had become true.
 */
export class ProgressWatch {
  readonly samples: LedSample[] = []
  readonly #stop = new AbortController()
  readonly #watching: Promise<void>

  constructor(writeUrl: string, intervalMs = 20) {
    this.#watching = this.#watch(writeUrl, intervalMs)
    this.#watching.catch(() => {}) // Whoever ends the watch hears of it.
  }

  async #watch(writeUrl: string, intervalMs: number): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      const client = new pg.Client({ connectionString: writeUrl, connectionTimeoutMillis: 3_000 })
      client.on('error', () => {}) // The query reports it.
      try {
        await client.connect()
        for (; !signal.aborted; await pause(intervalMs, signal)) await this.#look(client)
      } catch (error) {
        // PostgreSQL may be away, as the schedule says; a watch that cannot look must not pass.
        if (!isAway(error)) throw error
        await pause(100, signal)
      } finally {
        await client.end().catch(() => {})
      }
    }
  }

  async #look(client: pg.Client): Promise<void> {
    const { rows } = await client.query<ProgressRow & { at_ms: number }>(progressText)
    const [row] = rows
    if (row === undefined) return
    const progress = progressOf(row)
    const last = this.samples.at(-1)
    // The earliest of equal ones says all.
    const same =
      last?.next === progress.next &&
      last.gaps.join() === progress.gaps.join() &&
      last.epoch === row.epoch
    if (!same) this.samples.push({ ...progress, atMs: row.at_ms, epoch: row.epoch })
  }

  /** Rejects when the watch was broken off: then its samples show nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await this.#watching
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {}) // It is over.
}
