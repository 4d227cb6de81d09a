import kafkajs from 'kafkajs'
import type { Kafka, logLevel as KafkaLogLevel } from 'kafkajs'

/** One line that the client library wanted to log. `fields` never hold keys or values of records. */
export type KafkaLogLine = {
  level: 'debug' | 'info' | 'warn' | 'error'
  message: string
  fields: Readonly<Record<string, unknown>>
}

export type KafkaLog = (line: KafkaLogLine) => void

export type KafkaClientSettings = {
  /** Bootstrap servers, `host:port`. */
  brokers: readonly string[]
  /** Shown in the broker's logs and metrics. */
  clientId: string
  /** Told of every line of the library; without it they are dropped (failures are thrown anyway). */
  log?: KafkaLog
  /** How often the library itself tries again, within one call. 3 by default. */
  retries?: number
  connectionTimeoutMs?: number
  requestTimeoutMs?: number
}

/**
 * The one place that makes a kafkajs client. The library's own retries are few and short: whoever
 * uses it has a loop that waits, says so, and can be stopped.
 */
export function kafkaClient(settings: KafkaClientSettings): Kafka {
  silenceTimeoutNegativeWarning()
  return new kafkajs.Kafka({
    brokers: [...settings.brokers],
    clientId: settings.clientId,
    connectionTimeout: settings.connectionTimeoutMs ?? 3_000,
    authenticationTimeout: 10_000,
    requestTimeout: settings.requestTimeoutMs ?? 15_000,
    enforceRequestTimeout: true,
    retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: settings.retries ?? 3 },
    logLevel: kafkajs.logLevel.INFO,
    logCreator: () => (entry) => {
      const { timestamp: _time, logger: _logger, message, ...fields } = entry.log
      settings.log?.({
        level: levelOf(entry.level),
        message: `${entry.namespace}: ${message}`,
        fields,
      })
    },
  })
}

function levelOf(level: KafkaLogLevel): KafkaLogLine['level'] {
  if (level === kafkajs.logLevel.ERROR) return 'error'
  if (level === kafkajs.logLevel.WARN) return 'warn'
  return level === kafkajs.logLevel.INFO ? 'info' : 'debug'
}

let silenced = false

/**
 * kafkajs's request queue now and then asks for a timer in the past, and Node warns each time. Only
 * that warning, and only when kafkajs caused it, is dropped: the same slip of ours is still shown.
 */
function silenceTimeoutNegativeWarning(): void {
  if (silenced) return
  silenced = true
  const emitWarning = process.emitWarning.bind(process) as (...args: unknown[]) => void
  process.emitWarning = (...args: unknown[]) => {
    const ours = args[1] === 'TimeoutNegativeWarning' && new Error().stack?.includes('kafkajs')
    if (!ours) emitWarning(...args)
  }
}
