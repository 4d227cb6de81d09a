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
}

/**
 * Reads the topic from its first record and the tables, and holds every promise against them.
 * Nothing may be written meanwhile. Accounts that are forgiven may have been in quarantine.
 */
export async function checkAtRest(
  stack: DrillStack,
  { load, watch }: { load: Load; watch: ProgressWatch },
  forgiven: (records: readonly TopicRecord[]) => ReadonlySet<string> = () => new Set(),
): Promise<AtRest> {
  const records = await readTopic(stack.brokers, topic)
  const tables = await readTables(stack)
  const quarantined = readQuarantined(stack.logFile('query-api'))
  const harmed = forgiven(records)
  const verdict = check({
    tables,
    records,
    samples: watch.samples,
    history: load.history,
    quarantined: quarantined.filter(({ account }) => !harmed.has(account)),
  })
  return { verdict, quarantined: quarantined.length }
}
