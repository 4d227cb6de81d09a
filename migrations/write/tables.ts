import type { Generated } from 'kysely'

/** The write database, as Kysely sees it. bigint columns arrive as strings of digits. */
export type WriteDatabase = {
  'ledger.accounts': AccountTable
  'ledger.account_events': AccountEventTable
  'ledger.idempotency': IdempotencyTable
  'outbox.events': OutboxEventTable
  'outbox.relay': RelayTable
  'outbox.gaps': GapTable
  'outbox.audit': AuditTable
  'outbox.parked_aggregates': ParkedAggregateTable
  'outbox.parked': ParkedEventTable
}

export type AccountTable = {
  id: string
  owner: string
  currency: string
  exponent: number
  type: string
  status: 'open' | 'closed'
  frozen: 'all' | 'debits' | 'credits' | null
  ledger_balance: string
  held: string
  overdraft_limit: string
  metadata: Record<string, unknown>
  version: string
  opened_at: Date
  as_of: Date
}

export type AccountEventTable = {
  account_id: string
  version: string
  id: string
  type: string
  payload: unknown
  outbox_position: string
  traceparent: string
  correlationid: string
  causationid: string
  occurred_at: Date
}

export type IdempotencyTable = {
  caller: string
  key: string
  fingerprint: Buffer
  status: number
  body: unknown
  etag: string | null
  token: string | null
  answered_at: Date
}

export type OutboxEventTable = {
  position: Generated<string>
  id: string
  aggregatetype: string
  aggregateid: string
  aggregateversion: string
  type: string
  payload: unknown
  source: string
  specversion: string
  traceparent: string
  correlationid: string
  causationid: string
  occurred_at: Date
}

export type RelayTable = {
  mode: 'polling' | 'wal' | 'debezium'
  leader: string | null
  epoch: string
  renewal: string
  next_position: string
  system_identifier: string | null
  timeline: string | null
  mode_variable: string | null
  switch_to: 'polling' | 'wal' | 'debezium' | null
  switch_since: Date | null
  switch_by: string | null
  switch_reason: string | null
  switch_step: string | null
  switch_waiting_for: string | null
}

export type GapTable = { first_position: string; last_position: string }

export type AuditTable = {
  id: Generated<string>
  at: Generated<Date>
  epoch: string
  actor: string
  action: string
  before: string | null
  after: string | null
  reason: string | null
}

export type ParkedAggregateTable = {
  aggregatetype: string
  aggregateid: string
  position: string
  version: string
  event_id: string
  event_type: string
  refusal: string
  record_bytes: string
  refusals: Generated<number>
  refused_at: Generated<Date>
  since: Generated<Date>
  events: string
  releasing: Generated<boolean>
}

export type ParkedEventTable = Omit<OutboxEventTable, 'position'> & { position: string }
