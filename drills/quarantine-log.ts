import { existsSync, readFileSync } from 'node:fs'

/** An account that query-api put into quarantine: something of it was missing or contradicted. */
export type Quarantined = { atMs: number; account: string; what: string }

/** From query-api's log, because what is repaired leaves no row. */
export function readQuarantined(logFile: string): Quarantined[] {
  if (!existsSync(logFile)) return []
  return readFileSync(logFile, 'utf8')
    .split('\n')
    .filter((line) => line.includes('"event":"account_quarantined"'))
    .map((line) => {
      const { time, account, code } = JSON.parse(line) as Record<string, string>
      return { atMs: Date.parse(time ?? ''), account: account ?? '', what: code ?? '' }
    })
}
