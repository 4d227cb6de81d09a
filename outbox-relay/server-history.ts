import type { Progress } from './progress.ts'
import type { RelayRow } from './relay-table.ts'

// A failover to a standby that lagged, or a restore, takes commits back that were published. Then the
// positions above the last surviving row are drawn again, for other events, below what progress calls
// published. Nothing may be passed over on the word of such progress: everything retained is read
// again. Repeats are recognised downstream; what was published and is lost here is found there too, as
// the same version with another event.

/** Why progress must not be believed on this server, or undefined. */
export function stepBack(
  row: Pick<RelayRow, 'timeline' | 'serverTimeline' | 'lastDrawn'>,
  progress: Progress,
  remembered: bigint,
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
  if (progress.next < remembered) {
    return `progress in the tables says ${progress.next}, and this process had saved ${remembered}`
  }
  return undefined
}
