import type { Progress } from './progress.ts'
import type { RelayRow } from './relay-table.ts'

// A failover to a standby that lagged, or a restore, takes commits back that were published. Then the
// positions above the last surviving row are drawn again, for other events, below what progress calls
// published. Nothing may be passed over on the word of such progress: everything retained is read
// again. Repeats are recognised downstream; what was published and is lost here is found there too, as
// the same version with another event.

/** What one process has seen, and nobody but a restore takes back. */
export type Seen = {
  /** The highest `next` that it saved. */
  next: bigint
  /** The highest renewal of the lease, its own or another's: every leader counts on from it. */
  renewal: bigint
}

export const nothingSeen: Seen = { next: 0n, renewal: 0n }

export function seenWith(seen: Seen, row: Pick<RelayRow, 'renewal'>): Seen {
  const renewal = BigInt(row.renewal)
  return renewal > seen.renewal ? { ...seen, renewal } : seen
}

/** Why progress must not be believed on this server, or undefined. */
export function stepBack(
  row: Pick<RelayRow, 'timeline' | 'serverTimeline' | 'lastDrawn' | 'renewal'>,
  progress: Progress,
  seen: Seen,
): string | undefined {
  const { timeline, serverTimeline, lastDrawn } = row
  if (timeline !== null && serverTimeline !== null && timeline !== serverTimeline) {
    return `the server is on timeline ${serverTimeline}, and progress was made on timeline ${timeline}: a standby was promoted, or a backup restored`
  }
  if (progress.next - 1n > BigInt(lastDrawn ?? 0)) {
    return `the last position drawn is ${lastDrawn ?? 'none'}, and progress says that all below ${progress.next} was published`
  }
  // A copy of the files from before, on the same timeline: the tables agree with each other, and
  // only this process knows better.
  if (progress.next < seen.next) {
    return `progress in the tables says ${progress.next}, and this process had saved ${seen.next}`
  }
  // The same, seen by a process that was standing by while another led.
  if (BigInt(row.renewal) < seen.renewal) {
    return `the lease was renewed ${row.renewal} times, and this process had seen it renewed ${seen.renewal} times: an older copy of outbox.relay is back`
  }
  return undefined
}
