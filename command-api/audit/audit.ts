import type { ClientBase } from 'pg'
import {
  events,
  Fold,
  reversals,
  statesOf,
  strangers,
  unbalanced,
  type Divergence,
} from './checks.ts'

export type AuditReport = { accounts: number; events: number; divergence: Divergence | null }

const accountsAtOnce = 500

/**
 * Holds the write side against its events, in one snapshot, and stops at the first divergence.
 * Reads everything once and keeps little: it may be run beside a working service.
 */
export async function audit(client: ClientBase): Promise<AuditReport> {
  await client.query('begin isolation level repeatable read read only')
  try {
    const report: AuditReport = { accounts: 0, events: 0, divergence: null }
    report.divergence =
      (await auditAccounts(client, report)) ??
      (await strangers(client)) ??
      (await reversals(client)) ??
      (await unbalanced(client))
    return report
  } finally {
    await client.query('rollback')
  }
}

async function auditAccounts(client: ClientBase, report: AuditReport): Promise<Divergence | null> {
  let folds: Fold[] = []
  for await (const row of events(client)) {
    if (folds.at(-1)?.id !== row.account_id) {
      const done = folds.length < accountsAtOnce ? null : await compared(client, folds)
      if (done !== null) return done
      if (folds.length >= accountsAtOnce) folds = []
      folds.push(new Fold(row.account_id))
      report.accounts += 1
    }
    report.events += 1
    const divergence = folds.at(-1)?.add(row) ?? null
    if (divergence !== null) return divergence
  }
  return compared(client, folds)
}

async function compared(client: ClientBase, folds: readonly Fold[]): Promise<Divergence | null> {
  const states = await statesOf(
    client,
    folds.map(({ id }) => id),
  )
  for (const fold of folds) {
    const state = states.get(fold.id)
    const divergence = state === undefined ? null : fold.compare(state)
    if (divergence !== null) return divergence
  }
  return null
}
