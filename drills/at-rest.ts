import { check, type Verdict } from './checker.ts'
import type { Load } from './load.ts'
import type { ProgressWatch } from './progress-watch.ts'
import { readQuarantined } from './quarantine-log.ts'
import { type DrillStack, topic } from './stack.ts'
import { readTables } from './tables.ts'
import { readTopic, type TopicRecord } from './topic-reader.ts'

/** What was found with everything at rest. */
export type AtRest = {
  verdict: Verdict
  /** Accounts that came into quarantine, forgiven or not. */
  quarantined: number
  records: readonly TopicRecord[]
}

export type Watched = {
  load: Load
  watch: ProgressWatch
  /** Rows have left the queue: the ledger tells what was in it; of heartbeats it does not. */
  retired?: boolean
}

/**
 * Reads the topic from its first record and the tables, and holds every promise against them.
 * Nothing may be written meanwhile. Accounts that are forgiven may have been in quarantine.
 */
export async function checkAtRest(
  stack: DrillStack,
  { load, watch, retired = false }: Watched,
  forgiven: (records: readonly TopicRecord[]) => ReadonlySet<string> = () => new Set(),
): Promise<AtRest> {
  const all = await readTopic(stack.brokers, topic)
  const records = retired ? all.filter((record) => typeOf(record) !== 'Heartbeat.v1') : all
  const tables = await readTables(stack, { retired })
  const quarantined = readQuarantined(stack.logFile('query-api'))
  const harmed = forgiven(records)
  const verdict = check({
    tables,
    records,
    samples: watch.samples,
    history: load.history,
    quarantined: quarantined.filter(({ account }) => !harmed.has(account)),
    parked: load.poisoned,
  })
  return { verdict, quarantined: quarantined.length, records }
}

function typeOf({ headers }: TopicRecord): string | null | undefined {
  return headers.find(([name]) => name === 'ce_type')?.[1]
}
