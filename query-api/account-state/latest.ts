import { heartbeatType } from 'command-api/events'
import type { ConsumedRecord } from 'kafka/consumer'
import { decode, type Envelope, MalformedRecord } from 'outbox-relay/wire'
import { z } from 'zod'

// What the topic `account-state` says of an account: every event carries the state after it, so the
// latest event is all that is needed, whatever its type, and a missing one before it is no harm.

/** The state after an event, of whatever type: one that is not known yet has it as well. */
const payloadSchema = z.object({
  accountId: z.string(),
  after: z.object({
    version: z.int().positive(),
    ledgerBalance: z.string(),
    held: z.string(),
    available: z.string(),
    status: z.string(),
  }),
})

export type State = { account: string; version: number; eventId: string; value: string }

/** Throws MalformedRecord. */
export function stateIn(envelope: Envelope): State {
  const { id: eventId, aggregateId: account, aggregateVersion, time, type } = envelope
  const { accountId, after } = afterOf(envelope)
  const version = Number(aggregateVersion)
  if (accountId !== account || after.version !== version) {
    throw new MalformedRecord(
      'value',
      `(${type}) is of another account or version than its envelope`,
    )
  }
  const state = { id: account, ...after, lastEventId: eventId, asOf: time }
  return { account, version, eventId, value: JSON.stringify(state) }
}

function afterOf({ payload, type }: Envelope): z.output<typeof payloadSchema> {
  try {
    return payloadSchema.parse(JSON.parse(payload))
  } catch (error) {
    const malformed = new MalformedRecord('value', `(${type}) does not say the state after it`)
    malformed.cause = error
    throw malformed
  }
}

type Head = Pick<State, 'version' | 'eventId'>

/**
 * The latest versions of the accounts that were written about last, so that an event that comes again
 * does not bring an older state back. It forgets those written longest ago, and everything with the
 * process: then a repeated event is written again, and those behind it, too, which come again with it.
 */
export class RecentHeads {
  readonly #heads = new Map<string, Head>()
  readonly #limit: number

  constructor(limit = 10_000) {
    this.#limit = limit
  }

  of(account: string): Head | undefined {
    return this.#heads.get(account)
  }

  note(states: readonly State[]): void {
    for (const { account, version, eventId } of states) {
      this.#heads.delete(account)
      this.#heads.set(account, { version, eventId })
    }
    for (const account of this.#heads.keys()) {
      if (this.#heads.size <= this.#limit) break
      this.#heads.delete(account)
    }
  }
}

export type Folded = {
  /** One per account. */
  states: readonly State[]
  events: number
  duplicates: number
  /** When the newest heartbeat among them was written. */
  heartbeatAt: string | undefined
  /** When the last of them that can be read was written. */
  throughAt: string | undefined
  /** Accounts whose version came as another event: the later one counts. */
  conflicts: readonly string[]
  unreadable: readonly { offset: bigint; why: string }[]
}

/** What a chunk's records, in their order, make of their accounts. */
export function foldStates(heads: RecentHeads, records: readonly ConsumedRecord[]): Folded {
  const latest = new Map<string, State>()
  const conflicts: string[] = []
  const unreadable: { offset: bigint; why: string }[] = []
  let events = 0
  let duplicates = 0
  let heartbeatAt: string | undefined
  let throughAt: string | undefined
  for (const { offset, key, value, headers } of records) {
    let state: State
    try {
      const envelope = decode({ key, value, headers })
      throughAt = envelope.time
      if (envelope.type === heartbeatType) {
        heartbeatAt = envelope.time
        continue
      }
      state = stateIn(envelope)
    } catch (error) {
      if (!(error instanceof MalformedRecord)) throw error
      unreadable.push({ offset, why: error.message })
      continue
    }
    const head = latest.get(state.account) ?? heads.of(state.account)
    const repeated = head?.version === state.version && head.eventId === state.eventId
    if (repeated || state.version < (head?.version ?? 0)) {
      duplicates += 1
      continue
    }
    if (state.version === head?.version) conflicts.push(state.account)
    latest.set(state.account, state)
    events += 1
  }
  const states = [...latest.values()]
  return { states, events, duplicates, heartbeatAt, throughAt, conflicts, unreadable }
}
