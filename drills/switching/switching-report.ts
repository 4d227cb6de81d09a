import { breachLines, eventsLines, restFailures } from '../report.ts'
import type { SwitchingResult } from './switching-drill.ts'

/**
 * What a switch may repeat was sent within this before it came again: since progress was last saved, or
 * a connector's last checkpoint passed, until a successor has led through the switch.
 */
const repeatLimitMs = 15_000

export function switchingFailures(
  result: SwitchingResult,
  asked: { only: string | undefined },
): string[] {
  const { cases, verdict } = result
  const late = verdict.figures.repeats.filter(
    ({ firstMs, atMs }) => atMs - firstMs > repeatLimitMs,
  ).length
  return [
    ...cases.flatMap(({ name, error }) => (error === undefined ? [] : [`${name}: ${error}`])),
    ...restFailures(result, asked),
    ...(late > 0 ? [`${late} records came again later than ${repeatLimitMs} ms`] : []),
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
