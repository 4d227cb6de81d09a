import type { Refusal } from './projection.ts'

// The version guard: delivery is at least once, effect is once. Per account, version v applies only
// to a row at v - 1. Lower or equal is a repetition. The same version under another event id means
// that history was changed (a failover or restore lost it), and higher means that an event is
// missing: neither may be passed over, so of that account everything from there on is refused. The
// others go on.

/** What a read model's row says of its account. */
export type Head = { version: number; lastEventId: string }

type Versioned = { account: string; version: number; id: string }

export type Guarded<Event> = {
  /** Events to apply, per account in version order. */
  accepted: ReadonlyMap<string, readonly Event[]>
  duplicates: number
  /** At most one per account: its first refused event. */
  refusals: readonly Refusal[]
}

/** Sorts one partition's events, given in their order, into those to apply, repetitions and refused. */
export function guardEvents<Event extends Versioned>(
  stored: ReadonlyMap<string, Head>,
  events: readonly Event[],
): Guarded<Event> {
  const heads = new Map(stored)
  const accepted = new Map<string, Event[]>()
  const refusals = new Map<string, Refusal>()
  let duplicates = 0
  for (const [index, event] of events.entries()) {
    const { account, version, id } = event
    const refused = refusals.get(account)
    if (refused !== undefined) {
      refusals.set(account, withLater(refused, version))
      continue
    }
    const head = heads.get(account)
    const wanted = (head?.version ?? 0) + 1
    const conflicts = version === head?.version && id !== head.lastEventId
    if (version > wanted || conflicts) {
      const code = conflicts ? 'version_conflict' : 'version_gap'
      refusals.set(account, {
        code,
        index,
        account,
        wanted,
        seen: version,
        highest: version,
        held: 1,
      })
      continue
    }
    if (version < wanted) {
      duplicates += 1
      continue
    }
    heads.set(account, { version, lastEventId: id })
    const own = accepted.get(account)
    if (own === undefined) accepted.set(account, [event])
    else own.push(event)
  }
  return { accepted, duplicates, refusals: [...refusals.values()] }
}

/** A refusal, after one more event of its account came behind it. */
export function withLater(refusal: Refusal, version: number): Refusal {
  return { ...refusal, highest: Math.max(refusal.highest, version), held: refusal.held + 1 }
}
