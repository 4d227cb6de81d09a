import assert from 'node:assert'
import type { Lsn } from './lsn.ts'

// Three places in the log are kept apart: what was received, what Kafka has confirmed and is saved as
// progress, and what the server was told. The server may forget what it was told. So it is told
//   - the end of the last transaction of which every row, and of all before it, is confirmed;
//   - the place of a keepalive only when nothing is in flight and no transaction is open: the
//     keepalive may lie behind rows that were received and not confirmed.
// Several rows share an LSN, and a transaction is acknowledged as a whole.

/** `rows` of the stream were received by its end, those before it included. */
type Transaction = { rows: number; end: Lsn }

export class Acknowledgement {
  /** Ended transactions with rows that are not confirmed, in commit order. */
  readonly #waiting: Transaction[] = []
  #open = false
  #received = 0
  #confirmed = 0
  #settled: Lsn

  /** From where the stream begins: all before it is settled. */
  constructor(start: Lsn) {
    this.#settled = start
  }

  /** Where everything before is confirmed, or brought nothing. Only ever grows. */
  get settled(): Lsn {
    return this.#settled
  }

  begin(): void {
    assert(!this.#open, 'a transaction begins inside another')
    this.#open = true
  }

  row(): void {
    assert(this.#open, 'a row outside a transaction')
    this.#received += 1
  }

  commit(end: Lsn): void {
    assert(this.#open, 'a commit without a begin')
    this.#open = false
    this.#waiting.push({ rows: this.#received, end })
    this.#settle()
  }

  /** The next `rows` rows, in the order received, are confirmed. */
  confirmed(rows: number): void {
    this.#confirmed += rows
    assert(this.#confirmed <= this.#received, 'more rows are confirmed than were received')
    this.#settle()
  }

  keepalive(walEnd: Lsn): void {
    if (!this.#open && this.#waiting.length === 0) this.#advance(walEnd)
  }

  #settle(): void {
    let done = 0
    for (const { rows, end } of this.#waiting) {
      if (rows > this.#confirmed) break
      this.#advance(end)
      done += 1
    }
    if (done > 0) this.#waiting.splice(0, done)
  }

  #advance(lsn: Lsn): void {
    if (lsn > this.#settled) this.#settled = lsn
  }
}
