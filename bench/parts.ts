import { BenchError } from './errors.ts'
import type { Figure, PartResult } from './figures.ts'
import { loadPerMinute } from './machine.ts'
import type { Progress } from './progress.ts'

/** A part, and in words what its own checks have found right when it did not throw. */
type Part = Pick<PartResult, 'part' | 'title' | 'checked'>

/** A failure is a result, without figures: the other parts still run. */
export async function runPart(
  part: Part,
  measure: () => Promise<Figure[]>,
  progress: Progress,
): Promise<PartResult> {
  const before = loadPerMinute()
  const outcome = await measured(part, measure, progress)
  return { ...part, ...outcome, load: [before, loadPerMinute()] }
}

async function measured({ checked }: Part, measure: () => Promise<Figure[]>, progress: Progress) {
  try {
    return { figures: await measure(), checked, failed: false }
  } catch (error) {
    const { code = 'unexpected', message } = error as { code?: string; message: string }
    progress.step(`FAILED: ${code}: ${message}`)
    if (!(error instanceof BenchError)) process.stderr.write(`${(error as Error).stack}\n`)
    return { figures: [], checked: `${code}: ${message}`, failed: true }
  }
}

export const exitCodeOf = (results: readonly PartResult[]) =>
  results.some(({ failed }) => failed) ? 1 : 0
