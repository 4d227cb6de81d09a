import type { Refusal } from './projection.ts'

// The version guard: delivery is at least once, effect is once. Per account, version v applies only
// to a row at v - 1. Lower or equal is a repetition. The same version under another event id means
// that history was changed (a failover or restore lost it), and higher means that an event is
// missing: neither may be passed over, so everything from there on is refused.

/** What a read model's row says of its account. */
export type Head = { version: number; lastEventId: string }

type Versioned = { account: string; version: number; id: string }

export type Guarded<Event> = {
  /** Events to apply, per account in version order. */
  accepted: ReadonlyMap<string, readonly Event[]>
  duplicates: number
  refusal?: Refusal
}

/** Sorts one partition's events, given in their order, into those to apply and repetitions. */
export function guardEvents<Event extends Versioned>(
  stored: ReadonlyMap<string, Head>,
  events: readonly Event[],
): Guarded<Event> {
  const heads = new Map(stored)
  const accepted = new Map<string, Event[]>()
  let duplicates = 0
  for (const [index, event] of events.entries()) {
    const { account, version, id } = event
    const head = heads.get(account)
    const wanted = (head?.version ?? 0) + 1
    if (version > wanted) {
      const refusal = { code: 'version_gap', index, account, wanted, seen: version } as const
      return { accepted, duplicates, refusal }
    }
    if (version === head?.version && id !== head.lastEventId) {
      const refusal = { code: 'version_conflict', index, account, wanted, seen: version } as const
      return { accepted, duplicates, refusal }
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
  return { accepted, duplicates }
}
