import { median } from './rounds.ts'

/** What a figure has to reach: by itself, or as a multiple of its baseline. */
type Target = { of: 'value' | 'ratio'; atLeast?: number; atMost?: number }

export type Figure = {
  part: string
  name: string
  unit: string
  /** One per round. */
  rounds: readonly number[]
  value: number
  baseline?: { name: string; rounds: readonly number[]; value: number }
  /** Median of the rounds' own ratios: each round's baseline ran beside it. */
  ratio?: number
  targets: readonly Target[]
  /** With several targets, whether any of them is reached; undefined without one. */
  met?: boolean
  note?: string
}

export type FigureInput = {
  part: string
  name: string
  unit: string
  rounds: readonly number[]
  baseline?: { name: string; rounds: readonly number[] }
  targets?: readonly Target[]
  note?: string
}

export function figure({ baseline, targets = [], note, ...input }: FigureInput): Figure {
  const value = median(input.rounds)
  const ratio =
    baseline === undefined
      ? undefined
      : median(input.rounds.map((each, round) => each / (baseline.rounds[round] ?? Number.NaN)))
  return {
    ...input,
    value,
    targets,
    ...(baseline === undefined
      ? {}
      : { baseline: { ...baseline, value: median(baseline.rounds) } }),
    ...(ratio === undefined ? {} : { ratio }),
    ...(targets.length === 0 ? {} : { met: targets.some((target) => isMet(target, value, ratio)) }),
    ...(note === undefined ? {} : { note }),
  }
}

function isMet({ of, atLeast, atMost }: Target, value: number, ratio: number | undefined): boolean {
  const judged = of === 'value' ? value : ratio
  if (judged === undefined || Number.isNaN(judged)) return false
  return judged >= (atLeast ?? -Infinity) && judged <= (atMost ?? Infinity)
}

/** A part as it ended: its figures, or why there are none. */
export type PartResult = {
  part: string
  title: string
  figures: readonly Figure[]
  /** The correctness check's own words, or those of the failure. */
  checked: string
  failed: boolean
  /** Of the machine, before the part and after it. */
  load: readonly [before: number, after: number]
}

/** The table for people. */
export function tableOf(parts: readonly PartResult[]): string {
  const lines = [['figure', 'value', 'baseline', 'ratio', 'target', '']]
  const said: string[] = []
  for (const { part, title, figures, checked, failed, load } of parts) {
    if (failed) lines.push([`${part} ${title}`, 'FAILED', '', '', '', ''])
    else lines.push(...figures.map(rowOf))
    said.push(`${part} ${title}: ${failed ? 'FAILED: ' : ''}${checked}; load ${load.join(' to ')}`)
    said.push(...figures.flatMap(({ name, note }) => (note ? [`    ${name}: ${note}`] : [])))
  }
  return `${aligned(lines)}\n\n${said.join('\n')}\n`
}

function rowOf({ part, name, value, unit, baseline, ratio, targets, met }: Figure): string[] {
  return [
    `${part} ${name}`,
    `${numberText(value)} ${unit}`,
    baseline === undefined ? '' : `${numberText(baseline.value)} ${unit} ${baseline.name}`,
    ratio === undefined ? '' : `${ratio.toFixed(2)}x`,
    targets.map(targetText).join(' or '),
    met === undefined ? '' : met ? 'ok' : 'BELOW',
  ]
}

function targetText({ of, atLeast, atMost }: Target): string {
  const unit = of === 'ratio' ? 'x' : ''
  return atLeast === undefined
    ? `<= ${numberText(atMost ?? 0)}${unit}`
    : `>= ${numberText(atLeast)}${unit}`
}

function numberText(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US')
  return String(Math.round(value * 100) / 100)
}

function aligned(lines: readonly string[][]): string {
  const widths = (lines[0] ?? []).map((_, at) =>
    Math.max(...lines.map((line) => (line[at] ?? '').length)),
  )
  return lines
    .map((line) =>
      line
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
