import { covers, type Repeat } from '../delivery-check.ts'
import type { LedSample } from '../progress-watch.ts'
import { type Direction, nameOf } from './places.ts'

// What a switch may bring twice.
//
// Without a connector: nothing, as long as the same leader leads, since what a mode has in flight is
// confirmed and saved before the next one begins. Who takes over sends again what its predecessor had
// not saved: what was on its way, or confirmed within the 50 ms between two saves of polling, the 100 ms
// of wal. Nobody sends what was saved as published.
//
// With one: what it had sent since the last checkpoint that it passed is saved by nobody, and it begins at
// its slot, which is older than its turn: what polling sent meanwhile comes again, some of it only after
// the next switch was asked for. None of that was saved as published when the switch was asked for.

/** A switch, or the way back to where the next one begins, and when it was asked for. */
export type Way = Direction & { fromMs: number }

/** The save that a leader died in, and one batch, on a machine that does other things too. */
const unsavedMs = 2_000
/** Who was frozen with a batch sends it when it wakes: its successor has sent that at once. */
const inFlightMs = 1_000
/**
 * A checkpoint is taken each second and passed when the connector has stored its offsets, another second
 * later; the lease takes one, and the way to a connector up to ten.
 */
const connectorMs = 15_000

/** Of the repeats those that nothing explains, as sentences. */
export function unexplained(
  repeats: readonly Repeat[],
  ways: readonly Way[],
  samples: readonly LedSample[],
): string[] {
  const takeovers = takeoversOf(samples)
  return repeats.flatMap((repeat) => {
    const at = ways.findLastIndex(({ fromMs }) => fromMs <= repeat.atMs)
    const way = ways[at]
    const byConnector = way?.from === 'debezium' || way?.to === 'debezium'
    // Who leaves a connector that has just begun hears of what was before that, too.
    const asked = ways[way?.from === 'debezium' ? at - 1 : at]
    const explained = byConnector
      ? isUnsaved(repeat, asked === undefined ? undefined : lastBy(samples, asked.fromMs))
      : isTakenOver(repeat, takeovers)
    if (explained) return []
    const { position, firstMs, atMs } = repeat
    const where = way === undefined ? 'before any switch' : nameOf(way)
    return [`${where}: position ${position} came again ${Math.round(atMs - firstMs)} ms later`]
  })
}

function isUnsaved({ position, firstMs, atMs }: Repeat, saved: LedSample | undefined): boolean {
  return atMs - firstMs <= connectorMs && (saved === undefined || !covers(saved, position))
}

/** What was saved last under one epoch, and when the next one was seen. */
type Takeover = { saved: LedSample; seenMs: number }

function takeoversOf(samples: readonly LedSample[]): Takeover[] {
  return samples.flatMap((sample, n) => {
    const saved = samples[n - 1]
    if (saved === undefined || saved.epoch === sample.epoch) return []
    return [{ saved, seenMs: sample.atMs }]
  })
}

/** Around one of them: it may have been seen a moment after its leader sent. */
function isTakenOver({ position, firstMs, atMs }: Repeat, takeovers: Takeover[]): boolean {
  return takeovers.some(({ saved, seenMs }) => {
    const inTime = firstMs >= saved.atMs - unsavedMs && firstMs <= seenMs + inFlightMs
    return inTime && atMs >= saved.atMs && !covers(saved, position)
  })
}

function lastBy(samples: readonly LedSample[], atMs: number): LedSample | undefined {
  return samples.findLast((sample) => sample.atMs <= atMs)
}
