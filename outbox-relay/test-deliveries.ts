// What a reader of the outbox brought, held against what was committed.

/** One event as it was delivered or committed. */
export type Delivery = { aggregateId: string; version: number }

export type Violations = {
  /** Committed and never delivered. */
  lost: number
  /** Delivered after a later version of its aggregate. */
  outOfOrder: number
  /** Delivered again. */
  repeated: number
  /** Delivered and not committed. */
  phantom: number
}

export function violationsOf(
  committed: readonly Delivery[],
  delivered: readonly Delivery[],
): Violations {
  const missing = new Set(committed.map(nameOf))
  const all = new Set(missing)
  const highest = new Map<string, number>()
  const found: Violations = { lost: 0, outOfOrder: 0, repeated: 0, phantom: 0 }
  for (const delivery of delivered) {
    const name = nameOf(delivery)
    if (!all.has(name)) found.phantom += 1
    else if (!missing.delete(name)) found.repeated += 1
    const { aggregateId, version } = delivery
    const before = highest.get(aggregateId) ?? 0
    if (version < before) found.outOfOrder += 1
    else highest.set(aggregateId, version)
  }
  found.lost = missing.size
  return found
}

function nameOf({ aggregateId, version }: Delivery): string {
  return `${aggregateId}@${version}`
}
