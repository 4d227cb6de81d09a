import { styleText } from 'node:util'

export type Terminal = {
  write(text: string): void
  /** Whether a line can be drawn over, and whether colours are wanted. */
  redraws: boolean
  colours: boolean
}

export type Steps = {
  /** Runs one step and prints its line, with what `work` says it did and how long it took. */
  run<T>(title: string, work: (step: Step) => Promise<T>): Promise<T>
  /** A line, or several, that belong to no step. */
  say(text: string): void
  heading(text: string): void
  /** Something went wrong that goes on being tried. */
  warn(text: string): void
  fail(text: string): void
}

export type Step = {
  /** What the finished line will say behind the title. */
  detail: string
  /** How far it is: drawn over on a terminal, a line now and then elsewhere. */
  progress(text: string): void
}

const titleWidth = 13
const progressEveryMs = 5_000

/** Where lines go: process.stdout, with colours only for a terminal and without NO_COLOR. */
export function standardTerminal(environment: NodeJS.ProcessEnv): Terminal {
  const isTerminal = process.stdout.isTTY
  return {
    write: (text) => process.stdout.write(text),
    redraws: isTerminal && environment.TERM !== 'dumb',
    colours: isTerminal && (environment.NO_COLOR ?? '') === '' && environment.TERM !== 'dumb',
  }
}

/** Prints what happens, one line per step; `now` gives milliseconds that only move forward. */
export function openSteps(terminal: Terminal, now: () => number = () => performance.now()): Steps {
  const paint = (format: 'green' | 'red' | 'yellow' | 'dim' | 'bold', text: string) =>
    terminal.colours ? styleText(format, text, { validateStream: false }) : text
  const clear = terminal.redraws ? '\r\x1b[2K' : ''
  const line = (text: string) => terminal.write(`${clear}${text}\n`)

  async function run<T>(title: string, work: (step: Step) => Promise<T>): Promise<T> {
    const startedAt = now()
    const name = title.padEnd(titleWidth)
    let saidAt = startedAt
    const step: Step = {
      detail: '',
      progress(text) {
        if (terminal.redraws) terminal.write(`${clear}  ${paint('dim', '·')} ${name} ${text}`)
        else if (now() - saidAt >= progressEveryMs) line(`  · ${name} ${text}`)
        else return
        saidAt = now()
      },
    }
    step.progress('...')
    try {
      const result = await work(step)
      const time = paint('dim', formatMs(now() - startedAt))
      line(`  ${paint('green', '✓')} ${name} ${step.detail}  ${time}`)
      return result
    } catch (error) {
      line(`  ${paint('red', '✗')} ${name} ${paint('dim', formatMs(now() - startedAt))}`)
      throw error
    }
  }

  return {
    run,
    say: (text) => line(text),
    heading: (text) => line(paint('bold', text)),
    warn: (text) => line(paint('yellow', text)),
    fail: (text) => line(paint('red', text)),
  }
}

/** `8 ms`, `1,204 ms`. */
export function formatMs(durationMs: number): string {
  return `${Math.round(durationMs).toLocaleString('en-US')} ms`
}
