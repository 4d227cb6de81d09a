/** The middle value; of an even number of values, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** The value below which this share of them lies. `sorted` ascends. */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

/** Each round begins one further: no variant always runs first, or always after the same other. */
export function rotated<T>(variants: readonly T[], round: number): T[] {
  const from = round % Math.max(1, variants.length)
  return [...variants.slice(from), ...variants.slice(0, from)]
}

/** A value of each round, by name. */
export class Samples {
  readonly #values = new Map<string, number[]>()

  add(name: string, value: number): void {
    const values = this.#values.get(name)
    if (values === undefined) this.#values.set(name, [value])
    else values.push(value)
  }

  of(name: string): readonly number[] {
    return this.#values.get(name) ?? []
  }

  median(name: string): number {
    return median(this.of(name))
  }
}
