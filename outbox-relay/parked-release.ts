import { pause } from 'service/backoff'
import { RelayError } from './errors.ts'
import {
  type Aggregate,
  type OneAtATime,
  type ParkedAggregates,
  type Refused,
  refusedOf,
  type Send,
} from './parking.ts'
import {
  type CopyLimits,
  parkAgain,
  readCopies,
  readReleasing,
  removeCopies,
  unpark,
} from './parking-table.ts'
import type { Tenure } from './relay-table.ts'
import type { Queryable } from './text-query.ts'

export type ReleaseOptions = {
  db: Queryable
  tenure: Tenure
  parked: ParkedAggregates
  /** The one that publishing takes its turns by. */
  inTurn: OneAtATime
  send: Send
  saver: { flush(): Promise<void> }
  onReleased: (aggregate: Aggregate) => void
  onSent: (rows: number) => void
  onRefusedAgain: (refused: Refused) => void
}

const intervalMs = 250
/** One turn of each aggregate, then the next: none waits for the whole of another. */
const aggregatesAtOnce = 100
const limits: CopyLimits = { rows: 500, payloadBytes: 8_000_000 }

/** Releases what somebody asked for, beside what the mode publishes, until `signal` aborts. */
export async function releaseParked(options: ReleaseOptions, signal: AbortSignal): Promise<void> {
  const { db, parked, inTurn } = options
  while (!signal.aborted) {
    const releasing = parked.size === 0 ? [] : await readReleasing(db, aggregatesAtOnce)
    for (const aggregate of releasing) {
      if (!signal.aborted) await inTurn(() => releaseSome(options, aggregate))
    }
    if (releasing.length === 0) await pause(intervalMs, signal)
  }
}

/**
 * Sends the first copies of an aggregate and removes them; when none is left, parks it no more. Nothing
 * else is sent meanwhile, so what is held by now is all that there is behind the copies.
 */
async function releaseSome(options: ReleaseOptions, aggregate: Aggregate): Promise<void> {
  const { db, tenure, parked, send, saver } = options
  const { rows, complete } = await readCopies(db, aggregate, limits)
  const refused = await refusedOf(rows, send)
  const confirmed = refused === undefined ? rows : rows.slice(0, rows.indexOf(refused.row))
  const last = confirmed.at(-1)
  if (last !== undefined) {
    requireEpoch(await removeCopies(db, tenure, { ...aggregate, upTo: last[0] }))
    options.onSent(confirmed.length)
  }
  if (refused !== undefined) {
    requireEpoch(await parkAgain(db, tenure, refused))
    options.onRefusedAgain(refused)
    return
  }
  if (!complete) return
  await saver.flush()
  const released = await unpark(db, tenure, aggregate)
  requireEpoch(released !== undefined)
  if (released !== true) return
  parked.delete(aggregate)
  options.onReleased(aggregate)
}

function requireEpoch(written: boolean): void {
  if (written) return
  throw new RelayError('progress_fenced', 'another leader has begun: nothing was written')
}
