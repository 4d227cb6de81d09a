import { pause } from 'service/backoff'
import type { Cursor } from '../cursor.ts'
import { RelayError } from '../errors.ts'
import { afterProof, afterPublishing, isPublished, type Progress } from '../progress.ts'
import type { Publish } from '../publishing.ts'
import type { SlotState } from '../relay-state.ts'
import type { OutboxRow } from '../wire.ts'
import { Acknowledgement } from './acknowledgement.ts'
import type { Awaited } from './missing-row.ts'
import { PgoutputDecoder } from './pgoutput.ts'
import { ReceivedRows } from './received-rows.ts'
import type { Entered } from './wal-entry.ts'

export type WalStream = {
  entered: Entered
  start: Progress
  publish: Publish
  saver: { offer(confirmed: Progress): void; flush(): Promise<void> }
  cursor: Pick<Cursor, 'proveGaps'>
  /** Throws `slot_lost`. */
  readSlot: () => Promise<SlotState>
  /** A row that is in the table and not published, and where the log ended after it. */
  awaitedRow: (progress: Progress) => Promise<Awaited | undefined>
  onSlot: (slot: SlotState) => void
  onProgress: (progress: Progress) => void
  batchRows: number
  /** Of the leadership. */
  lost: AbortSignal
  stop: AbortSignal
}

// About three batches: one to publish next, and what comes meanwhile. More is memory, no faster.
const bufferBytes = 4_000_000
const batchPayloadBytes = 8_000_000
/** How often what is confirmed is saved, and then told to the server. */
const settleIntervalMs = 100
const gapIntervalMs = 250
const slotIntervalMs = 1_000
const awaitedIntervalMs = 2_000

/**
 * Publishes what the log brings, until `stop` aborts; then saves, and returns what is published. Throws what ended the stream
 * (`stream_lost`, `stream_malformed`, `slot_lost`) and what publishing or saving throws; what was in
 * flight is then confirmed and offered to be saved, or was thrown by `publish`.
 */
export async function streamLog(stream: WalStream): Promise<Progress> {
  const { saver, stop } = stream
  await using sender = new LogSender(stream)
  while (!stop.aborted && !sender.failed.aborted) await sender.publishNext()
  await saver.flush()
  if (!stop.aborted) sender.failed.throwIfAborted()
  return sender.progress
}

class LogSender {
  readonly #stream: WalStream
  readonly #rows = new ReceivedRows(bufferBytes)
  readonly #decoder = new PgoutputDecoder()
  readonly #acknowledgement: Acknowledgement
  readonly #failed = new AbortController()
  readonly #working: Promise<void>[]
  /** Saved as progress: the server may forget what is before. */
  #settled: bigint
  #progress: Progress
  #awaited: Awaited | undefined

  constructor(stream: WalStream) {
    const { session, slot } = stream.entered
    this.#stream = stream
    this.#progress = stream.start
    this.#settled = slot.consistentPoint
    this.#acknowledgement = new Acknowledgement(slot.consistentPoint)
    const streaming = session.stream(slot, 'sluice_outbox', {
      onMessage: (bytes) => this.#receive(bytes),
      onKeepalive: (end) => this.#acknowledgement.keepalive(end),
      settled: () => this.#settled,
    })
    this.#working = [
      streaming,
      this.#every(settleIntervalMs, () => this.#settle()),
      this.#every(gapIntervalMs, () => this.#closeGaps()),
      this.#every(slotIntervalMs, async () => stream.onSlot(await stream.readSlot())),
      this.#every(awaitedIntervalMs, () => this.#lookForMissing()),
    ].map((work) => work.catch((error: unknown) => this.#failed.abort(error)))
    const loseLease = () => this.#failed.abort(stream.lost.reason)
    stream.lost.addEventListener('abort', loseLease, { once: true })
    if (stream.lost.aborted) loseLease()
    // At once, though a batch may still wait for Kafka: a walsender that nobody answers keeps log, and
    // keeps its server from shutting down.
    this.failed.addEventListener('abort', () => void session[Symbol.asyncDispose](), { once: true })
    for (const signal of [stream.stop, this.failed]) {
      signal.addEventListener('abort', () => this.#rows.wake(), { once: true })
    }
  }

  /** Aborts with what ended the stream. */
  get failed(): AbortSignal {
    return this.#failed.signal
  }

  /** What is published. */
  get progress(): Progress {
    return this.#progress
  }

  async publishNext(): Promise<void> {
    const { publish, batchRows } = this.#stream
    await this.#rows.arrival()
    const taken = this.#rows.take(batchRows, batchPayloadBytes)
    if (taken.length === 0) return
    const fresh = taken.filter((row) => !isPublished(this.#progress, BigInt(row[0])))
    const positions = positionsOf(fresh)
    if (fresh.length > 0) await publish(fresh, () => afterPublishing(this.#progress, positions))
    // Asked again: gaps may have closed meanwhile.
    this.#progress = afterPublishing(this.#progress, positions)
    this.#acknowledgement.confirmed(taken.length)
    const { session } = this.#stream.entered
    if (session.paused && this.#rows.low) session.resume()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#failed.abort(new Error('closed'))
    await this.#stream.entered.session[Symbol.asyncDispose]()
    await Promise.all(this.#working)
  }

  #receive(bytes: Buffer): void {
    const decoded = this.#decoder.decode(bytes)
    switch (decoded.kind) {
      case 'begin':
        return this.#acknowledgement.begin()
      case 'commit':
        return this.#acknowledgement.commit(decoded.end)
      case 'other':
        return
      case 'row': {
        this.#acknowledgement.row()
        this.#rows.push(decoded.row)
        const { session } = this.#stream.entered
        if (this.#rows.full && !session.paused) session.pause()
      }
    }
  }

  /** Saved first, told then: the server forgets what a successor would have to read again. */
  async #settle(): Promise<void> {
    const { settled } = this.#acknowledgement
    if (settled === this.#settled) return
    await this.#stream.saver.flush()
    this.#settled = settled
  }

  /** A position that was rolled back is a gap here too, and comes by no log. */
  async #closeGaps(): Promise<void> {
    if (this.#progress.gaps.length === 0) return
    const proof = await this.#stream.cursor.proveGaps(this.#progress)
    this.#progress = afterProof(this.#progress, proof)
    if (proof.dead.length === 0) return
    this.#stream.saver.offer(this.#progress)
    this.#stream.onProgress(this.#progress)
  }

  async #lookForMissing(): Promise<void> {
    const { position, end } = this.#awaited ?? {}
    if (position === undefined || end === undefined || isPublished(this.#progress, position)) {
      this.#awaited = await this.#stream.awaitedRow(this.#progress)
    } else if (this.#acknowledgement.settled >= end) {
      throw new RelayError(
        'stream_lost',
        `the log does not bring position ${position}, which is in the table: publication ` +
          'sluice_outbox must have all of outbox.events',
      )
    }
  }

  async #every(intervalMs: number, work: () => Promise<void>): Promise<void> {
    for (;;) {
      await pause(intervalMs, this.failed)
      if (this.failed.aborted) return
      await work()
    }
  }
}

/** Ascending; rows come in commit order. */
function positionsOf(rows: readonly OutboxRow[]): bigint[] {
  return rows.map((row) => BigInt(row[0])).toSorted((a, b) => (a < b ? -1 : 1))
}
