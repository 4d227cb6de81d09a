import type { Config } from './config.ts'
import type { RelayRow } from './relay-table.ts'

/** How rows reach Kafka. */
export const modes = ['polling', 'wal', 'debezium'] as const
export type Mode = (typeof modes)[number]

/**
 * What RELAY_MODE asks for; undefined when nothing. The row decides: the variable does only when its
 * value is another than the one acted upon last, so that a restart does not undo what was switched.
 */
export function askedBy(
  variable: Mode | undefined,
  { modeVariable }: Pick<RelayRow, 'modeVariable'>,
): Mode | undefined {
  return variable === modeVariable ? undefined : variable
}

/** Why this process cannot do it, as a sentence; undefined when it can. */
export function whyNot(
  mode: Mode,
  config: Pick<Config, 'CDC_DATABASE_URL' | 'CONNECT_URL'>,
): string | undefined {
  if (mode !== 'polling' && config.CDC_DATABASE_URL === undefined) {
    return `mode ${mode} needs CDC_DATABASE_URL, the address of the write database for the role sluice_cdc`
  }
  if (mode === 'debezium' && config.CONNECT_URL === undefined) {
    return 'mode debezium needs CONNECT_URL, the address of a Kafka Connect worker'
  }
  return undefined
}
