import type { OutboxRow } from '../wire.ts'

/**
 * Rows decoded and not yet taken, in the order received. It does not refuse: `full` says that the
 * socket should be paused, `low` that it may be read again.
 */
export class ReceivedRows {
  readonly #limitBytes: number
  #rows: (OutboxRow | undefined)[] = []
  #at = 0
  #bytes = 0
  #arrived = Promise.withResolvers<void>()

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  get full(): boolean {
    return this.#bytes >= this.#limitBytes
  }

  get low(): boolean {
    return this.#bytes <= this.#limitBytes / 2
  }

  push(row: OutboxRow): void {
    this.#rows.push(row)
    this.#bytes += sizeOf(row)
    this.#arrived.resolve()
  }

  /** Ends the present wait for a row, if there is one. */
  wake(): void {
    this.#arrived.resolve()
  }

  /** Resolves when there is a row, or at `wake`. */
  async arrival(): Promise<void> {
    if (this.#at < this.#rows.length) return
    this.#arrived = Promise.withResolvers()
    await this.#arrived.promise
  }

  /** The next rows, at most `limit`, until their payload reaches `payloadBytes`; at least one. */
  take(limit: number, payloadBytes: number): OutboxRow[] {
    const taken: OutboxRow[] = []
    let bytes = 0
    while (this.#at < this.#rows.length && taken.length < limit) {
      const row = this.#rows[this.#at] as OutboxRow
      if (bytes > 0 && bytes + row[12].length > payloadBytes) break
      bytes += row[12].length
      this.#bytes -= sizeOf(row)
      taken.push(row)
      // Let go at once, whatever its size; the places go in pieces, since to shift them is dear.
      this.#rows[this.#at] = undefined
      this.#at += 1
    }
    if (this.#at === this.#rows.length || this.#at > 20_000) {
      this.#rows = this.#rows.slice(this.#at)
      this.#at = 0
    }
    return taken
  }
}

/** About what a row holds in memory beside its payload: twelve short strings. */
const rowOverheadBytes = 1_000

const sizeOf = (row: OutboxRow) => row[12].length + rowOverheadBytes
