import { calledOffAt, type Direction, directions, nameOf, placesOf, undoing } from './places.ts'

export type Signal = 'SIGKILL' | 'SIGSTOP'

/**
 * One switch, in which the leader is killed or stopped at one place. Called off, either while a
 * transaction keeps it from going on, or with the leader right before an action; then the leader is left
 * alone, or killed or stopped as it notices, or as it takes down again what it has made.
 */
export type SwitchingCase = Direction & {
  place: string
  signal: Signal | 'nothing'
  calledOff?: 'beside a transaction' | { at: string }
}

const both = ['SIGKILL', 'SIGSTOP'] as const

/**
 * Every action is met by both signals in a direction that has it; the two directions that share all of
 * theirs with others take turns, so that the whole takes no longer than it has to.
 */
function switched(direction: Direction): SwitchingCase[] {
  const takesTurns = direction.from !== 'polling' && direction.to !== 'polling'
  return placesOf(direction).flatMap((place, n) => {
    // Not always the one before a step, and the other at it.
    const turn = both[(n + (n >> 1)) % 2]!
    const signals = takesTurns ? [turn] : both
    return signals.map((signal) => ({ ...direction, place, signal }))
  })
}

function calledOff(direction: Direction): SwitchingCase[] {
  const { from, to } = direction
  if (to === 'polling') return []
  const beside = (['nothing', ...both] as const).map((signal) => ({
    ...direction,
    place: 'before leave',
    signal,
    calledOff: 'beside a transaction' as const,
  }))
  const offAt = calledOffAt[to].map((at) => ({
    ...direction,
    place: '',
    signal: 'nothing' as const,
    calledOff: { at },
  }))
  const undone = (at: string, places: readonly string[]) =>
    places.flatMap((place) =>
      both.map((signal) => ({ ...direction, place, signal, calledOff: { at } })),
    )
  if (to === 'wal') return [...beside, ...offAt]
  // A connector that runs, and one that was made and does not.
  return from === 'polling'
    ? [...beside, ...offAt, ...undone('at begin', undoing)]
    : [...beside, ...undone('at set offsets', ['before remove connector', 'before drop slot'])]
}

export function describe({ place, signal, calledOff: off, ...direction }: SwitchingCase): string {
  const name = nameOf(direction)
  if (off === 'beside a transaction') return `${name}, ${signal} at cancel`
  if (off === undefined) return `${name}, ${signal} ${place}`
  return `${name}, called off ${off.at}, ${signal === 'nothing' ? signal : `${signal} ${place}`}`
}

/** All of them, or those with `only` in their names; each direction by itself, so that few have to be undone. */
export function casesOf(only: string | undefined): SwitchingCase[] {
  const all = [...directions.flatMap(switched), ...directions.flatMap(calledOff)]
  return all.filter((each) => only === undefined || describe(each).includes(only))
}
