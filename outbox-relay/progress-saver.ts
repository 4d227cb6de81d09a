import { RelayError } from './errors.ts'
import { gapChanges, type Progress } from './progress.ts'
import type { Clock } from './lease.ts'
import type { ProgressChanges } from './relay-table.ts'

export type SaverOptions = {
  /** What is in the tables now. */
  saved: Progress
  /** False when the epoch is over, or the table is not as it was left. */
  save: (changes: ProgressChanges) => Promise<boolean>
  intervalMs: number
  now: Clock
}

/**
 * Writes confirmed progress, at most once per interval, beside the publishing of what follows. Only
 * what Kafka has confirmed may be offered. A failure is thrown by the next call; the saver is then
 * of no more use, since what is in the tables is not known.
 */
export class ProgressSaver {
  readonly #options: SaverOptions
  #saved: Progress
  #latest: Progress
  #savedAtMs = -Infinity
  #saving: Promise<void> | undefined
  #failure: { error: unknown } | undefined

  constructor(options: SaverOptions) {
    this.#options = options
    this.#saved = options.saved
    this.#latest = options.saved
  }

  offer(confirmed: Progress): void {
    this.#throwFailure()
    this.#latest = confirmed
    const { now, intervalMs } = this.#options
    if (this.#saving === undefined && now() - this.#savedAtMs >= intervalMs) void this.#start()
  }

  /** Resolves when what was offered before is written. */
  async flush(): Promise<void> {
    // Somebody who offers meanwhile may have started the next save.
    while (this.#saving !== undefined) await this.#saving
    this.#throwFailure()
    if (this.#latest === this.#saved) return
    await this.#start()
    this.#throwFailure()
  }

  #start(): Promise<void> {
    this.#savedAtMs = this.#options.now()
    const saving = this.#write(this.#latest)
      .catch((error: unknown) => {
        this.#failure = { error }
      })
      .finally(() => {
        this.#saving = undefined
      })
    this.#saving = saving
    return saving
  }

  async #write(progress: Progress): Promise<void> {
    const gaps = gapChanges(this.#saved, progress)
    const changed =
      progress.next !== this.#saved.next || gaps.closed.length + gaps.opened.length > 0
    const changes = { from: this.#saved.next, next: progress.next, gaps }
    if (changed && !(await this.#options.save(changes))) {
      throw new RelayError('progress_fenced', 'another leader has begun: nothing was saved')
    }
    this.#saved = progress
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}
