import { cpus, loadavg, totalmem } from 'node:os'

export type Machine = {
  cores: number
  processor: string
  memoryGb: number
  node: string
  postgres: string
  kafka: string
}

export function describeMachine(versions: { postgres: string; kafka: string }): Machine {
  const processors = cpus()
  return {
    cores: processors.length,
    processor: processors[0]?.model ?? 'unknown',
    memoryGb: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    ...versions,
  }
}

/** Processes that ran or wanted to, on average over the last minute. */
export const loadPerMinute = () => Math.round((loadavg()[0] ?? 0) * 10) / 10
