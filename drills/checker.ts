import { checkAccounts } from './account-check.ts'
import { checkDelivery, type DeliveryFigures, type ProgressSample } from './delivery-check.ts'
import type { Finding } from './findings.ts'
import { checkHistory } from './history-check.ts'
import type { HistoryEntry } from './history.ts'
import type { Quarantined } from './quarantine-log.ts'
import type { Tables } from './tables.ts'
import type { TopicRecord } from './topic-reader.ts'

export type Evidence = {
  tables: Tables
  records: readonly TopicRecord[]
  samples: readonly ProgressSample[]
  history: readonly HistoryEntry[]
  /** Accounts that came into quarantine though nothing was done that they should. */
  quarantined: readonly Quarantined[]
  /**
   * Accounts that were parked at some time: progress covered what was held of them, which came to Kafka
   * later, and the read side may have fetched it before that.
   */
  parked?: ReadonlySet<string>
}

export type Verdict = {
  findings: Finding[]
  figures: DeliveryFigures & { moneyDrift: bigint }
}

/** Every promise, on what was found at rest. Pure. */
export function check(evidence: Evidence): Verdict {
  const { tables, records, samples, history, quarantined, parked = new Set() } = evidence
  const final = { ...tables.progress, atMs: Number.MAX_VALUE }
  const delivery = checkDelivery({
    topic: 'account-events',
    outbox: tables.outbox,
    records,
    samples: [...samples, final],
    parked,
  })
  const accounts = checkAccounts(tables)
  return {
    findings: [
      ...delivery.findings,
      ...accounts.findings,
      ...checkHistory(history, tables.events),
      ...quarantined.flatMap(({ account, what }) => {
        if (parked.has(account)) return []
        // Repaired or not: an event did not reach it by itself.
        return { promise: 'I4', what: `read side, ${account}: in quarantine (${what})` } as const
      }),
    ],
    figures: { ...delivery.figures, moneyDrift: accounts.moneyDrift },
  }
}
