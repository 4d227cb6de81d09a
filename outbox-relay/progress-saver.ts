import { RelayError } from './errors.ts'
import { gapChanges, type Progress } from './progress.ts'
import type { Clock } from './lease.ts'
import { type Held, nothingHeld } from './parking.ts'
import type { Changes } from './parking-table.ts'

export type SaverOptions = {
  /** What is in the tables now. */
  saved: Progress
  /** False when the epoch is over, or the table is not as it was left. */
  save: (changes: Changes) => Promise<boolean>
  intervalMs: number
  now: Clock
}

/** Of payload held in memory: with more than this it is saved before anything else is published. */
const heldBytes = 8_000_000

/**
 * Writes confirmed progress, at most once per interval, beside the publishing of what follows, and with
 * it what it covers and Kafka did not get: what is held. Only what Kafka has confirmed, or what is held,
 * may be offered. A failure is thrown by the next call; the saver is then
 * of no more use, since what is in the tables is not known.
 */
export class ProgressSaver {
  readonly #options: SaverOptions
  #saved: Progress
  #latest: Progress
  #savedAtMs = -Infinity
  #held = nothingHeld
  #heldBytes = 0
  #saving: Promise<void> | undefined
  #failure: { error: unknown } | undefined

  constructor(options: SaverOptions) {
    this.#options = options
    this.#saved = options.saved
    this.#latest = options.saved
  }

  offer(confirmed: Progress, held = nothingHeld): void {
    this.#throwFailure()
    this.#latest = confirmed
    if (held.rows.length > 0) this.#hold(held)
    const { now, intervalMs } = this.#options
    if (this.#saving === undefined && now() - this.#savedAtMs >= intervalMs) void this.#start()
  }

  /** So much is held that it should be written before more is. */
  get full(): boolean {
    return this.#heldBytes >= heldBytes
  }

  /** Resolves when what was offered before is written. */
  async flush(): Promise<void> {
    // Somebody who offers meanwhile may have started the next save.
    while (this.#saving !== undefined) await this.#saving
    this.#throwFailure()
    if (this.#latest === this.#saved && this.#held === nothingHeld) return
    await this.#start()
    this.#throwFailure()
  }

  #hold({ rows, refused }: Held): void {
    this.#held = {
      rows: [...this.#held.rows, ...rows],
      refused: [...this.#held.refused, ...refused],
    }
    for (const row of rows) this.#heldBytes += row[12].length
  }

  #start(): Promise<void> {
    this.#savedAtMs = this.#options.now()
    const held = this.#held
    this.#held = nothingHeld
    this.#heldBytes = 0
    const saving = this.#write(this.#latest, held)
      .catch((error: unknown) => {
        this.#failure = { error }
      })
      .finally(() => {
        this.#saving = undefined
      })
    this.#saving = saving
    return saving
  }

  async #write(progress: Progress, held: Held): Promise<void> {
    const gaps = gapChanges(this.#saved, progress)
    const changed =
      progress.next !== this.#saved.next ||
      gaps.closed.length + gaps.opened.length + held.rows.length > 0
    const changes = { from: this.#saved.next, next: progress.next, gaps, held }
    if (changed && !(await this.#options.save(changes))) {
      throw new RelayError('progress_fenced', 'another leader has begun: nothing was saved')
    }
    this.#saved = progress
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}
