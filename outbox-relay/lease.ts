import { pause } from 'service/backoff'
import { onStandby } from './cursor.ts'
import { RelayError } from './errors.ts'
import {
  readRelayRow,
  releaseLease,
  type RelayRow,
  renewLease,
  takeLease,
  type Tenure,
} from './relay-table.ts'
import type { Queryable } from './text-query.ts'

// One leader at a time, by a row with a growing epoch and a renewal counter. No wall clock decides,
// and no two clocks are compared:
// - the leader counts its lease from before a renewal was sent, so it ends it early, never late;
// - a standby counts from after it saw the counter's value, so it waits too long, never too short,
//   and takes over only if the row still holds that value;
// - the leader asks `assertHeld` before every request to Kafka. One that is stopped between asking
//   and sending can at worst repeat records, since every leader starts where all before is confirmed;
// - progress is written only under the epoch, so what such a leader saves is nothing.

/** A monotonic clock, in milliseconds. */
export type Clock = () => number

export type Sighting = { epoch: string; renewal: string; sinceMs: number }

/** What a standby remembers: since when it has seen the counter stand where it stands. */
export function sighted(last: Sighting | undefined, row: RelayRow, nowMs: number): Sighting {
  const same = last?.epoch === row.epoch && last.renewal === row.renewal
  return same ? last : { epoch: row.epoch, renewal: row.renewal, sinceMs: nowMs }
}

/** Whether a standby may take the lease: it is free, its own from before, or has run out. */
export function mayTake(
  row: RelayRow,
  seen: Sighting,
  { me, nowMs, leaseMs }: { me: string; nowMs: number; leaseMs: number },
): boolean {
  return row.leader === null || row.leader === me || nowMs - seen.sinceMs >= leaseMs
}

/** Refuses a server whose progress is not ours to continue. */
export function checkServer(row: RelayRow): void {
  if (row.isStandby) throw onStandby()
  if (row.systemIdentifier === null || row.systemIdentifier === row.serverIdentifier) return
  throw new RelayError(
    'foreign_server',
    `progress in outbox.relay was made on server ${row.systemIdentifier}, and this is server ` +
      `${row.serverIdentifier}: a dump restored or a cluster upgraded. Nothing is published, since ` +
      'positions here may mean other events. Compare outbox.events with the topics, correct ' +
      'next_position and outbox.gaps if need be (lower is safe: repeats are recognised), then run: ' +
      'update outbox.relay set system_identifier = null',
  )
}

export type LeaseOptions = {
  db: Queryable
  /** This process, unlike any other and unlike itself after a restart. */
  me: string
  leaseMs: number
  now: Clock
  /** Told of a renewal that failed; the lease goes on until it runs out. */
  onRenewalFailed: (error: unknown) => void
  /** Told of the row each time that it was read, before anything is done about it. */
  onRow?: (row: RelayRow) => void
}

/** A leader's last renewal is seen so much late at most, which is what a takeover takes beyond the lease. */
const lookIntervalMs = 100

/**
 * Waits until this process leads; undefined when `stop` aborted first. Throws `foreign_server`,
 * `standby_server`, and what the database throws.
 */
export async function awaitLease(
  options: LeaseOptions,
  stop: AbortSignal,
): Promise<Lease | undefined> {
  const { db, me, leaseMs, now } = options
  let seen: Sighting | undefined
  while (!stop.aborted) {
    const row = await readRelayRow(db)
    checkServer(row)
    options.onRow?.(row)
    seen = sighted(seen, row, now())
    if (mayTake(row, seen, { me, nowMs: now(), leaseMs })) {
      const sentMs = now()
      const epoch = await takeLease(db, me, row)
      if (epoch !== undefined) {
        return new Lease(options, { epoch, row, heldUntilMs: sentMs + leaseMs })
      }
    }
    const runsOutMs = seen.sinceMs + leaseMs - now()
    await pause(Math.max(1, Math.min(leaseMs / 10, lookIntervalMs, runsOutMs)), stop)
  }
  return undefined
}

/** The lease of one epoch, renewed three times in its length until it is disposed of or lost. */
export class Lease {
  readonly epoch: string
  /** As it was when the lease was taken. */
  readonly row: RelayRow
  readonly #options: LeaseOptions
  readonly #lost = new AbortController()
  readonly #closed = new AbortController()
  readonly #renewing: Promise<void>
  readonly #watch: NodeJS.Timeout
  #heldUntilMs: number

  constructor(options: LeaseOptions, taken: { epoch: string; row: RelayRow; heldUntilMs: number }) {
    this.epoch = taken.epoch
    this.row = taken.row
    this.#options = options
    this.#heldUntilMs = taken.heldUntilMs
    this.#renewing = this.#renew()
    this.#watch = setInterval(() => this.#expire(), Math.max(options.leaseMs / 20, 10))
  }

  /** Aborts soon after the lease has run out or another leader was seen. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  /** Throws `lease_lost` unless the lease is held at this moment. */
  assertHeld(): void {
    this.#expire()
    this.#lost.signal.throwIfAborted()
  }

  /** Gives the lease back. Only after the last progress was saved. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#watch)
    this.#closed.abort()
    await this.#renewing
    const held = !this.#lost.signal.aborted
    this.#lose('given back')
    // Without an answer the row stays as it is, and a successor waits for the lease to run out.
    if (held) await releaseLease(this.#options.db, this.#tenure).catch(() => {})
  }

  get #tenure(): Tenure {
    return { epoch: this.epoch, leader: this.#options.me }
  }

  async #renew(): Promise<void> {
    const { db, leaseMs, now, onRenewalFailed } = this.#options
    const ended = AbortSignal.any([this.#lost.signal, this.#closed.signal])
    while (!ended.aborted) {
      await pause(leaseMs / 3, ended)
      if (ended.aborted) return
      const sentMs = now()
      try {
        if (await renewLease(db, this.#tenure, leaseMs)) this.#heldUntilMs = sentMs + leaseMs
        else this.#lose('another relay has taken over')
      } catch (error) {
        onRenewalFailed(error)
      }
    }
  }

  #expire(): void {
    if (this.#options.now() < this.#heldUntilMs) return
    this.#lose(`not renewed within ${this.#options.leaseMs} ms`)
  }

  #lose(why: string): void {
    this.#lost.abort(new RelayError('lease_lost', `the lease of epoch ${this.epoch}: ${why}`))
  }
}
