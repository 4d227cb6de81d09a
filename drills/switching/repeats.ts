import type { TopicRecord } from '../topic-reader.ts'

/** A record that came again: when, and how long after it had come first, by the broker's clock. */
export type Repeat = { atMs: number; afterMs: number }

export function repeatsIn(records: readonly TopicRecord[]): Repeat[] {
  const firstMs = new Map<string, number>()
  const repeats: Repeat[] = []
  for (const { headers, appendedMs } of records) {
    const id = headers.find(([name]) => name === 'id')?.[1] ?? ''
    const first = firstMs.get(id)
    if (first === undefined) firstMs.set(id, appendedMs)
    else repeats.push({ atMs: appendedMs, afterMs: appendedMs - first })
  }
  return repeats
}
