import { availableOf, type Account } from './account.ts'
import type { Hold } from './books.ts'

/** The account as callers see it; amounts are strings of minor units, times RFC 3339 UTC. */
export function accountResource(account: Account) {
  return {
    id: account.id,
    owner: account.owner,
    currency: account.currency,
    exponent: account.exponent,
    type: account.type,
    status: account.status,
    freeze: account.freeze,
    ledgerBalance: String(account.ledgerBalance),
    held: String(account.held),
    available: String(availableOf(account)),
    overdraftLimit: String(account.overdraftLimit),
    metadata: account.metadata,
    version: account.version,
    openedAt: account.openedAt,
    asOf: account.asOf,
  }
}

export function holdResource({ id, amount, expiresAt, status }: Hold) {
  return { id, amount: String(amount), expiresAt, status }
}
