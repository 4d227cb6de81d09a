import { pino, type Logger } from 'pino'
import pretty from 'pino-pretty'

export type Log = Logger

/**
 * One JSON line per event, pretty on a terminal. Lines carry `event` from a fixed vocabulary, ids,
 * and errors with their causes; never a payload, never a secret.
 */
export function openLog(service: string, level: string): Log {
  const options = {
    level,
    base: { service },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: errorFields },
  }
  if (!process.stdout.isTTY) return pino(options, bufferedOutput())
  return pino(
    options,
    pretty({
      sync: true,
      translateTime: 'SYS:HH:MM:ss.l',
      ignore: 'service,event',
      messageFormat: '{service}: {msg}',
    }),
  )
}

type Fields = {
  type: string
  code?: string
  message: string
  details?: unknown
  stack?: string
  cause?: Fields
}

/** Data errors of PostgreSQL (classes 22 and 23) quote the value that they refuse. */
const quotesData = /^2[23][0-9A-Z]{3}$/

/**
 * An error as it may be logged: by name, code, message, `details` (which our own errors carry, ids and
 * numbers), stack and cause. Nothing else of it, since
 * what a library hangs on its errors (PostgreSQL's `detail`: the failing row) can be a payload.
 */
export function errorFields(error: unknown): Fields {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) }
  const { name, message, stack, cause } = error
  const { code, details } = error as { code?: unknown; details?: unknown }
  const quotes = typeof code === 'string' && quotesData.test(code)
  return {
    type: name,
    ...(typeof code === 'string' || typeof code === 'number' ? { code: `${code}` } : {}),
    message: quotes ? 'a data error, whose text is not logged' : message,
    ...(details === undefined ? {} : { details }),
    ...(stack === undefined || quotes ? {} : { stack }),
    ...(cause === undefined ? {} : { cause: errorFields(cause) }),
  }
}

const flushAfterMs = 50
const bufferedLines = 200
const warnLevel = 40

/**
 * Standard output, with many lines to a write: one system call for each request's line costs a tenth
 * of what answering it does. A warning or worse is written at once, with all before it; others wait
 * at most 50 ms, and are written when the process ends, whatever ends it but SIGKILL.
 */
function bufferedOutput() {
  const output = pino.destination({ dest: 1, sync: true })
  let lines: string[] = []
  let timer: NodeJS.Timeout | undefined
  const flush = () => {
    clearTimeout(timer)
    timer = undefined
    if (lines.length > 0) output.write(lines.join(''))
    lines = []
  }
  process.on('exit', flush)
  return {
    // pino sets `lastLevel` before each write when it finds this mark.
    [Symbol.for('pino.metadata')]: true,
    lastLevel: 0,
    write(line: string) {
      lines.push(line)
      if (this.lastLevel >= warnLevel || lines.length >= bufferedLines) flush()
      else timer ??= setTimeout(flush, flushAfterMs).unref()
    },
  }
}
