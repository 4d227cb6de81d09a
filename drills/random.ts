// Everything that a drill decides comes from one seed. How processes interleave is the machine's,
// so a seed repeats what was done and when, not each microsecond.

export type Random = {
  /** In [0, 1). */
  next(): number
  /** A whole number, both ends included. */
  between(low: number, high: number): number
  pick<T>(items: readonly T[]): T
  shuffled<T>(items: readonly T[]): T[]
  /** A generator of its own, so that one part's draws do not move another's. */
  fork(): Random
}

/** mulberry32: small, and good enough to choose faults and accounts by. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  const between = (low: number, high: number) => low + Math.floor(next() * (high - low + 1))
  return {
    next,
    between,
    pick: (items) => items[between(0, items.length - 1)]!,
    shuffled(items) {
      const left = [...items]
      for (let at = left.length - 1; at > 0; at -= 1) {
        const other = between(0, at)
        ;[left[at], left[other]] = [left[other]!, left[at]!]
      }
      return left
    },
    fork: () => seededRandom(between(0, 2 ** 32 - 1)),
  }
}

/** Draws 0 to count - 1 by Zipf's law: the first is the hottest by far. */
export function zipf(count: number, random: Random): () => number {
  let sum = 0
  const upTo = Array.from({ length: count }, (_, n) => (sum += 1 / (n + 1)))
  return () => {
    const wanted = random.next() * sum
    let [low, high] = [0, count - 1]
    while (low < high) {
      const middle = (low + high) >> 1
      if (upTo[middle]! > wanted) high = middle
      else low = middle + 1
    }
    return low
  }
}
