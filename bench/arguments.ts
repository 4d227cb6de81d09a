import { parseArgs } from 'node:util'
import { BenchError } from './errors.ts'

const partLetters = ['a', 'b', 'c', 'd', 'e', 'f'] as const
export type PartLetter = (typeof partLetters)[number]

export type Arguments = {
  parts: ReadonlySet<PartLetter>
  rounds: number
  /** Events that are drained and projected. */
  events: number
  /** Of each measurement by HTTP, after its warm-up. */
  seconds: number
  jsonFile: string
}

export const usage = `npm run bench -- [options]

  --only a,b    some parts: a drain, b projection, c commit to readable, d commands by HTTP,
                e the relay's memory (measured while it drains, so it brings a),
                f wal beside Debezium
  --quick       a fifth of the events, short measurements, two rounds
  --rounds N    each figure is the median of so many rounds (3)
  --json FILE   where the figures go (bench.json)
  --help        this text
`

/** Throws `arguments_invalid`. Returns undefined when help was asked for. */
export function readArguments(args: readonly string[]): Arguments | undefined {
  const { only, quick, rounds, json, help } = parse(args)
  if (help) return undefined
  const chosen = only === undefined ? [...partLetters] : only.split(',')
  const unknown = chosen.filter((letter) => !(partLetters as readonly string[]).includes(letter))
  if (unknown.length > 0) throw invalid(`there is no part ${unknown.join(', ')}`)
  const parts = new Set(chosen as PartLetter[])
  if (parts.has('e')) parts.add('a')
  const wanted = rounds ?? (quick ? '2' : '3')
  if (!/^[1-9]\d?$/.test(wanted)) throw invalid('--rounds takes 1 to 99')
  return {
    parts,
    rounds: Number(wanted),
    events: quick ? 60_000 : 300_000,
    seconds: quick ? 3 : 6,
    jsonFile: json,
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        only: { type: 'string' },
        quick: { type: 'boolean', default: false },
        rounds: { type: 'string' },
        json: { type: 'string', default: 'bench.json' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values
  } catch (cause) {
    throw invalid((cause as Error).message, cause)
  }
}

function invalid(message: string, cause?: unknown): BenchError {
  return new BenchError('arguments_invalid', `${message}\n\n${usage}`, { cause })
}
