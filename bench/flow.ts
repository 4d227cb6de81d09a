import { BenchError } from './errors.ts'
import { cpuSeconds } from './process-usage.ts'
import type { Progress } from './progress.ts'

export type Flow = { perSecond: number; cores: number }

const sampleIntervalMs = 20
const stallMs = 30_000

/**
 * How fast a count grows to `total`, from the first sample that has some: what came before is the
 * process's start. Throws `measurement_failed` when it stands still.
 */
export async function flowOf(
  count: () => Promise<number>,
  { total, progress, pid }: { total: number; progress: Progress; pid: number },
): Promise<Flow> {
  let first: { done: number; atMs: number; cpu: number } | undefined
  let last = { done: 0, atMs: performance.now() }
  for (;;) {
    const done = await count()
    const atMs = performance.now()
    if (first === undefined && done > 0) first = { done, atMs, cpu: cpuSeconds(pid) ?? Number.NaN }
    if (done >= total && first !== undefined) {
      const seconds = (atMs - first.atMs) / 1_000
      const cpu = (cpuSeconds(pid) ?? Number.NaN) - first.cpu
      return { perSecond: (done - first.done) / seconds, cores: cpu / seconds }
    }
    if (done > last.done) last = { done, atMs }
    else if (atMs - last.atMs > stallMs) {
      throw new BenchError('measurement_failed', `${done} of ${total}, and no more for 30 s`)
    }
    progress.tick(`${done} of ${total}`)
    await new Promise((resolve) => setTimeout(resolve, sampleIntervalMs))
  }
}
