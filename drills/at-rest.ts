import { check, type Verdict } from './checker.ts'
import { checkNoticed, unforgiven } from './harm.ts'
import type { HistoryEntry } from './history.ts'
import { leftBehind } from './left-behind.ts'
import type { Load } from './load.ts'
import type { LedSample, ProgressWatch } from './progress-watch.ts'
import { readQuarantined } from './quarantine-log.ts'
import { type DrillStack, topic } from './stack.ts'
import { readTables } from './tables.ts'
import { readTopic, type TopicRecord } from './topic-reader.ts'

/** What was found with everything at rest. */
export type AtRest = {
  verdict: Verdict
  /** How often an account came into quarantine, by what for; forgiven or not. */
  quarantined: Record<string, number>
  records: readonly TopicRecord[]
  history: readonly HistoryEntry[]
  /** Commands that were due and never sent. */
  skipped: number
  /** Progress as it was seen to move, which I9 is held against. */
  samples: readonly LedSample[]
  /** Processes that ended though nobody told them to. */
  unexpected: string[]
  /** Slots and connectors that nobody uses, and those in use that are gone. */
  left: string[]
}

export type Watched = {
  load: Load
  watch: ProgressWatch
  /** Rows have left the queue: the ledger tells what was in it; of heartbeats it does not. */
  retired?: boolean
}

/**
 * Reads the topic from its first record and the tables, and holds every promise against them.
 * Nothing may be written meanwhile.
 */
export async function checkAtRest(
  stack: DrillStack,
  { load, watch, retired = false }: Watched,
): Promise<AtRest> {
  const left = await leftBehind(stack)
  const all = await readTopic(stack.brokers, topic)
  const records = retired ? all.filter((record) => typeOf(record) !== 'Heartbeat.v1') : all
  const tables = await readTables(stack, { retired })
  const quarantined = stack.processes
    .filter(({ name }) => name === 'query-api')
    .flatMap(({ label }) => readQuarantined(stack.logFile(label)))
  const verdict = check({
    tables,
    records,
    samples: watch.samples,
    history: load.history,
    quarantined: unforgiven(quarantined, stack.harms),
    parked: load.poisoned,
  })
  const noticed = checkNoticed(stack.harms, quarantined)
  const findings = [...verdict.findings, ...noticed]
  const codes = quarantined.map(({ what }) => what)
  return {
    verdict: { ...verdict, findings },
    quarantined: countOf(codes),
    records,
    history: load.history,
    skipped: load.skipped,
    samples: watch.samples,
    unexpected: unexpectedEndings(stack),
    left,
  }
}

export function unexpectedEndings({ processes }: Pick<DrillStack, 'processes'>): string[] {
  return processes.flatMap(({ label, endings }) =>
    endings
      .filter(({ asked }) => !asked)
      .map(
        ({ code, signal, atMs }) =>
          `${label}: ${signal ?? code} at ${new Date(atMs).toISOString()}`,
      ),
  )
}

function countOf(codes: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const code of codes) counts[code] = (counts[code] ?? 0) + 1
  return counts
}

function typeOf({ headers }: TopicRecord): string | null | undefined {
  return headers.find(([name]) => name === 'ce_type')?.[1]
}
