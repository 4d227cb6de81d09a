import assert from 'node:assert'

// What has been published, as a set of positions: all below `next`, minus the open gaps. Gaps are
// ranges, sorted, apart from each other, all below `next`. Values here are never changed, only
// replaced, so that what was read ahead and what was confirmed can be held side by side.
//
// Each gap carries the transactions that may still fill it (`cursor.ts` proves why):
//   null            not known: its holders have not been read since the gap was found
//   a set of names  read after the gap was found; only ever shrinks
//   the empty set   all of them have ended: a statement sent from now on that covers a position of
//                   the gap and lacks it proves that the position stays empty

export type Gap = {
  readonly first: bigint
  readonly last: bigint
  readonly holders: ReadonlySet<string> | null
}

export type Progress = { readonly next: bigint; readonly gaps: readonly Gap[] }

/** What one statement returned. */
export type Reading = {
  /** Of the rows, ascending: first those inside open gaps, then those from `next` on. */
  positions: readonly bigint[]
  /** false: it stopped at a limit, and says nothing about positions beyond its last row. */
  complete: boolean
}

/** Progress as it was saved. Nothing is known of the holders of its gaps. */
export function progressFrom(next: bigint, ranges: Iterable<readonly [bigint, bigint]>): Progress {
  const gaps: Gap[] = []
  let from = 1n
  for (const [first, last] of ranges) {
    assert(
      first >= from && first <= last && last < next,
      `saved gap ${first}..${last} is misplaced`,
    )
    gaps.push({ first, last, holders: null })
    from = last + 1n
  }
  return { next, gaps }
}

/**
 * Progress once the rows of a statement are published. Their positions leave the gaps; what the tail
 * jumped over becomes gaps; gaps without a holder close as far as the statement covered them.
 */
export function afterReading(progress: Progress, { positions, complete }: Reading): Progress {
  assert(complete || positions.length > 0, 'a statement that stopped at a limit returned a row')
  return without(progress, positions, complete ? undefined : positions.at(-1))
}

/**
 * Progress once rows that came by the log are published: ascending, none of them published before.
 * That others did not come says nothing of them.
 */
export function afterPublishing(progress: Progress, positions: readonly bigint[]): Progress {
  return without(progress, positions, 0n)
}

function without(
  progress: Progress,
  positions: readonly bigint[],
  coveredTo: bigint | undefined,
): Progress {
  const gaps: Gap[] = []
  let at = 0
  for (const gap of progress.gaps) {
    let first = gap.first
    for (let position; (position = positions[at]) !== undefined && position <= gap.last; at += 1) {
      assert(position >= first, `row ${position} lies outside the open gaps`)
      keepOpen(gaps, gap, { first, last: position - 1n, coveredTo })
      first = position + 1n
    }
    keepOpen(gaps, gap, { first, last: gap.last, coveredTo })
  }
  let next = progress.next
  for (let position; (position = positions[at]) !== undefined; at += 1) {
    assert(position >= next, `row ${position} lies outside the open gaps and the tail`)
    if (position > next) gaps.push({ first: next, last: position - 1n, holders: null })
    next = position + 1n
  }
  return { next, gaps }
}

/** Whether a position was published, or is known to stay empty. */
export function isPublished({ next, gaps }: Progress, position: bigint): boolean {
  if (position >= next) return false
  let low = 0
  let high = gaps.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((gaps[middle] as Gap).last < position) low = middle + 1
    else high = middle
  }
  const gap = gaps[low]
  return gap === undefined || position < gap.first
}

export type Range = { readonly first: bigint; readonly last: bigint }

/** What a look at the open gaps found, without publishing anything. */
export type GapProof = {
  /** The gaps looked at, with their holders as they are now. */
  observed: readonly Gap[]
  /** Ascending: proven to stay empty. */
  dead: readonly Range[]
}

/** Progress with a proof applied that was made of it, or of what it was before rows were published. */
export function afterProof(progress: Progress, { observed, dead }: GapProof): Progress {
  const gaps: Gap[] = []
  let seen = 0
  let gone = 0
  for (const gap of progress.gaps) {
    while ((observed[seen]?.last ?? gap.first) < gap.first) seen += 1
    const source = observed[seen]
    const known = source !== undefined && source.first <= gap.first && gap.last <= source.last
    const holders = known ? source.holders : gap.holders
    let { first } = gap
    while ((dead[gone]?.last ?? gap.first) < gap.first) gone += 1
    for (let at = gone; first <= gap.last; at += 1) {
      const hole = dead[at]
      if (hole === undefined || hole.first > gap.last) break
      if (first < hole.first) gaps.push({ first, last: hole.first - 1n, holders })
      first = hole.last + 1n
    }
    if (first <= gap.last) gaps.push({ first, last: gap.last, holders })
  }
  return { next: progress.next, gaps }
}

/** What of ascending ranges lies at or below `last`. */
export function upTo(ranges: readonly Range[], last: bigint): Range[] {
  return ranges
    .filter((range) => range.first <= last)
    .map((range) => (range.last <= last ? range : { first: range.first, last }))
}

/** The parts of `ranges` without the positions given; both ascending. */
export function withoutPositions(ranges: readonly Range[], positions: readonly bigint[]): Range[] {
  const left: Range[] = []
  let at = 0
  for (const { first, last } of ranges) {
    let from = first
    for (let position; (position = positions[at]) !== undefined && position <= last; at += 1) {
      if (position < from) continue
      if (from < position) left.push({ first: from, last: position - 1n })
      from = position + 1n
    }
    if (from <= last) left.push({ first: from, last })
  }
  return left
}

/** Adds what stays open of one piece of a gap. Without `coveredTo` the whole of it was covered. */
function keepOpen(
  gaps: Gap[],
  gap: Gap,
  piece: { first: bigint; last: bigint; coveredTo: bigint | undefined },
): void {
  let { first } = piece
  const { last, coveredTo } = piece
  if (gap.holders?.size === 0) {
    if (coveredTo === undefined) return
    if (first <= coveredTo) first = coveredTo + 1n
  }
  if (first > last) return
  const whole = first === gap.first && last === gap.last
  gaps.push(whole ? gap : { first, last, holders: gap.holders })
}

/**
 * Progress once the present holders were read: a gap whose holders were not known gets all of them,
 * any other loses those that have ended.
 */
export function afterHolders(progress: Progress, present: ReadonlySet<string>): Progress {
  // Gaps found together share one set, which is cut down once.
  const remaining = new Map<ReadonlySet<string>, ReadonlySet<string>>()
  const gaps = progress.gaps.map((gap): Gap => {
    if (gap.holders === null) return { ...gap, holders: present }
    let holders = remaining.get(gap.holders)
    if (holders === undefined) {
      holders = gap.holders.isSubsetOf(present) ? gap.holders : gap.holders.intersection(present)
      remaining.set(gap.holders, holders)
    }
    return holders === gap.holders ? gap : { ...gap, holders }
  })
  return { next: progress.next, gaps }
}

/** Names of holders mean nothing in another session or after a restart of the server. */
export function withoutHolders(progress: Progress): Progress {
  return {
    next: progress.next,
    gaps: progress.gaps.map(({ first, last }) => ({ first, last, holders: null })),
  }
}

export type GapChanges = {
  /** First positions of gaps that are no more. */
  closed: bigint[]
  /** Gaps that are new, or whose last position is another one. */
  opened: Gap[]
}

/** What turns one progress's gaps into the other's, where a gap is known by its first position. */
export function gapChanges(from: Progress, to: Progress): GapChanges {
  const before = new Map(from.gaps.map((gap) => [gap.first, gap.last]))
  const opened: Gap[] = []
  for (const gap of to.gaps) {
    if (before.get(gap.first) !== gap.last) opened.push(gap)
    before.delete(gap.first)
  }
  return { closed: [...before.keys()], opened }
}
