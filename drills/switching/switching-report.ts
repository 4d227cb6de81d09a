import { breachLines, eventsLines, restFailures } from '../report.ts'
import { unexplained } from './repeats.ts'
import type { SwitchingResult } from './switching-drill.ts'

export function switchingFailures(
  result: SwitchingResult,
  asked: { only: string | undefined },
): string[] {
  const { cases, ways, verdict, samples } = result
  const repeated = unexplained(verdict.figures.repeats, ways, samples)
  return [
    ...cases.flatMap(({ name, error }) => (error === undefined ? [] : [`${name}: ${error}`])),
    ...restFailures(result, asked),
    ...(repeated.length > 0
      ? [`${repeated.length} records came again without a reason, such as`, ...repeated.slice(0, 5)]
      : []),
  ]
}

export function switchingLines(result: SwitchingResult): string[] {
  const { cases, verdict } = result
  const { repeats } = verdict.figures
  const perCase = cases.map(({ fromMs }, n) => {
    const endMs = cases[n + 1]?.fromMs ?? Infinity
    return repeats.filter(({ atMs }) => atMs >= fromMs && atMs < endMs).length
  })
  const worst = perCase.indexOf(Math.max(...perCase))
  const took = cases.map(({ tookMs }) => tookMs).toSorted((a, b) => a - b)
  const oldest = repeats.reduce((most, { firstMs, atMs }) => Math.max(most, atMs - firstMs), 0)
  return [
    `switches   ${cases.length}, ms p50 ${took[took.length >> 1] ?? '-'}, max ${took.at(-1) ?? '-'}`,
    ...eventsLines(result),
    `repeated   ${repeats.length}; at most ${perCase[worst] ?? 0} in one switch ` +
      `(${cases[worst]?.name ?? '-'}), ${oldest} ms after the first at most`,
    ...breachLines(verdict),
  ]
}
