import { readStoredEvent, RecordUnreadable, type StoredEvent } from '../event-record.ts'
import type { ProjectedEvent, Projection } from '../projection.ts'
import type { Transaction } from '../transaction.ts'
import { applyBisecting } from './bisection.ts'

/** Why an account is not released. */
export type Problem = {
  /** Stable; shown in the quarantine list. */
  code: string
  detail: string
  /** Replaces the reason for which it is in quarantine. */
  newCode?: 'version_conflict'
  /** What was applied on the way must not stay. */
  undo?: true
  /** Another attempt will get further, and need not wait. */
  soon?: true
}

type Item = StoredEvent & { event?: ProjectedEvent; problem?: Problem }

/**
 * Applies a page of one account's events, and says what stopped it. Up to `skipThrough` an event that
 * cannot be read or stored is left out, if a later one makes up for it: each carries the account's
 * whole state after it. `isLast`: no page follows.
 */
export async function applyStored(
  projection: Projection,
  transaction: Transaction,
  stored: readonly StoredEvent[],
  { skipThrough, isLast }: { skipThrough: number | null; isLast: boolean },
): Promise<{ applied: number; problem?: Problem }> {
  const items = stored.map(readItem)
  let applied = 0
  for (let at = 0; at < items.length;) {
    const unreadable = items.findIndex(({ event }, index) => index >= at && event === undefined)
    const end = unreadable === -1 ? items.length : unreadable
    const events = items.slice(at, end).map(({ event }) => event!)
    const done = await applyBisecting(projection, transaction, events)
    applied += done.applied
    const [refusal] = done.refusals
    if (refusal === undefined && end === items.length) return { applied }
    const index = refusal === undefined ? end : at + refusal.index
    const item = items[index]!
    const problem =
      refusal === undefined
        ? item.problem!
        : problemOfRefusal(refusal.code, refusal.detail ?? `at version ${item.version}`)
    const mayPass = refusal === undefined || refusal.code === 'apply_failed'
    if (!mayPass || item.version > (skipThrough ?? 0)) return { applied, problem }
    if (isLast && index === items.length - 1) return { applied, problem: lastOne(item) }
    if (!(await projection.pass(transaction, item))) return { applied, problem: openingLost }
    at = index + 1
  }
  return { applied }
}

function readItem(stored: StoredEvent): Item {
  try {
    return { ...stored, event: readStoredEvent(stored) }
  } catch (error) {
    if (!(error instanceof RecordUnreadable)) throw error
    const detail = `version ${stored.version} in the feed cannot be read: ${error.message}`
    return { ...stored, problem: { code: error.code, detail } }
  }
}

function problemOfRefusal(code: string, detail: string): Problem {
  if (code === 'apply_failed') return { code, detail }
  if (code === 'version_conflict') {
    const found = 'the feed has another event than the one applied here'
    return { code, detail: `${found}, ${detail}`, newCode: code, undo: true, soon: true }
  }
  return { code: 'feed_has_gap', detail: `the feed leaves out a version: ${detail}`, undo: true }
}

const lastOne = ({ version }: StoredEvent): Problem => ({
  code: 'waits_for_next_event',
  detail: `version ${version} is left out once a later event says what the account is after it`,
  undo: true,
})

const openingLost: Problem = {
  code: 'opening_unreadable',
  detail: 'the event that opens the account cannot be left out',
  undo: true,
}
