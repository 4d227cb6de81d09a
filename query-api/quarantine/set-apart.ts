import type { Head } from '../guard.ts'
import type { ProjectedEvent, Refusal } from '../projection.ts'
import type { NewEntry } from './entries.ts'

// Which events of a chunk are given to the projection, and which wait: those of accounts that are in
// quarantine, and those behind a record of their account that cannot be read. Pure.

/** A record that cannot be read, with what its key and header say. */
export type Unreadable = {
  offset: bigint
  /** Undefined where the record does not say whose it is. */
  account?: string
  version?: number
  code: string
  detail: string
}

export type PlacedEvent = { offset: bigint; event: ProjectedEvent }

export type SetApart = {
  /** For the projection, in their order. */
  events: readonly PlacedEvent[]
  /** Versions seen of accounts that are in quarantine already. */
  raised: ReadonlyMap<string, number>
  /** Put into quarantine by this chunk, by account. */
  entries: ReadonlyMap<string, NewEntry>
  /** Events that wait. */
  held: number
  /** Unreadable records of versions that were applied long ago. */
  duplicates: number
}

type Content = { events: readonly PlacedEvent[]; unreadable: readonly Unreadable[] }

export function setApart(
  { events, unreadable }: Content,
  known: {
    partition: number
    quarantined: ReadonlySet<string>
    /** Of the accounts that unreadable records are of. */
    heads: ReadonlyMap<string, Head>
  },
): SetApart {
  if (known.quarantined.size === 0 && unreadable.length === 0) {
    return { events, raised: new Map(), entries: new Map(), held: 0, duplicates: 0 }
  }
  const passed: PlacedEvent[] = []
  const versions = new Map([...known.heads].map(([account, head]) => [account, head.version]))
  const raised = new Map<string, number>()
  const entries = new Map<string, NewEntry>()
  let held = 0
  let duplicates = 0

  /** Whether the account waits already; then only its highest version may rise. */
  function waits(account: string, version: number): boolean {
    const entry = entries.get(account)
    if (entry !== undefined) {
      entries.set(account, { ...entry, highest: Math.max(entry.highest, version) })
    } else if (known.quarantined.has(account)) {
      raised.set(account, Math.max(raised.get(account) ?? 0, version))
    } else return false
    held += 1
    return true
  }

  for (const item of inOrder(events, unreadable)) {
    if ('event' in item) {
      const { account, version } = item.event
      if (waits(account, version)) continue
      if ((versions.get(account) ?? 0) === version - 1) versions.set(account, version)
      passed.push(item)
      continue
    }
    const { offset, code, detail } = item
    const account = item.account ?? `record-${known.partition}@${offset}`
    const head = versions.get(account) ?? 0
    if (item.version !== undefined && item.version <= head) duplicates += 1
    else if (!waits(account, item.version ?? 0)) {
      held += 1
      entries.set(account, {
        account,
        code,
        detail,
        wanted: item.account === undefined ? null : head + 1,
        seen: item.version ?? null,
        highest: item.version ?? 0,
        offset,
      })
    }
  }
  return { events: passed, raised, entries, held, duplicates }
}

/** Both lists are in the log's order; so is what they make together. */
function inOrder(
  events: readonly PlacedEvent[],
  unreadable: readonly Unreadable[],
): (PlacedEvent | Unreadable)[] {
  if (unreadable.length === 0) return [...events]
  return [...events, ...unreadable].toSorted((one, other) => Number(one.offset - other.offset))
}

/** The entry of a refused event that stands at `offset`. */
export function entryOfRefusal(refusal: Refusal, offset: bigint): NewEntry {
  const { code, account, wanted, seen, highest } = refusal
  const said =
    code === 'version_gap'
      ? `account ${account} has version ${seen} next in the log and waits for ${wanted}`
      : `account ${account} has another event as version ${seen} than the one applied`
  return { account, code, detail: refusal.detail ?? said, wanted, seen, highest, offset }
}
