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
  }
  if (!process.stdout.isTTY) return pino(options)
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
