import { accountsOf } from './commands.ts'
import type { Unit } from './batch.ts'

// Where commands wait for a lane. Each account has a line of its own, and a batch takes one unit from
// each line in turn, until it is full: however many wait for one account, a command on another is in
// the next batch while fewer accounts wait than a batch has places. What was taken is in order of
// arrival again; where all of it fits into one batch, lines make no difference.

type Waiting = { unit: Unit; arrival: number }

export class Queue<T extends Waiting> {
  /** None is empty; the first is the next to be served. */
  readonly #lines = new Map<string, T[]>()
  #length = 0

  get length(): number {
    return this.#length
  }

  /** How many wait in the line that this unit would join. */
  lengthBefore(unit: Unit): number {
    return this.#lines.get(lineOf(unit))?.length ?? 0
  }

  push(waiting: T): void {
    const name = lineOf(waiting.unit)
    const line = this.#lines.get(name)
    if (line === undefined) this.#lines.set(name, [waiting])
    else line.push(waiting)
    this.#length += 1
  }

  /** Units of together no more than so many commands; one at least, however many it has. */
  take(commandLimit: number): T[] {
    const taken: T[] = []
    let commands = 0
    // A line that is put back while this goes on is come to again.
    for (const [name, line] of this.#lines) {
      const [next] = line as [T]
      commands += next.unit.length
      if (commands > commandLimit && taken.length > 0) break
      taken.push(next)
      line.shift()
      this.#lines.delete(name)
      if (line.length > 0) this.#lines.set(name, line)
    }
    this.#length -= taken.length
    return taken.toSorted((a, b) => a.arrival - b.arrival)
  }
}

/** The account of its first command that pays or is named; of a reversal, what it reverses. */
function lineOf([first]: Unit): string {
  if (first === undefined) return ''
  const { command } = first
  if (command.kind === 'ReverseTransaction') return command.reversedTransactionId
  return accountsOf(command)[0] ?? ''
}
