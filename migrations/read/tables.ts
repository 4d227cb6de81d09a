/** The read database, as far as Kysely is asked of it. bigint columns arrive as strings of digits. */
export type ReadDatabase = {
  'read.accounts': ReadAccountTable
  'read.offsets': OffsetTable
  'read.heartbeats': HeartbeatTable
  'read.quarantine': QuarantineTable
  'read.audit': ReadAuditTable
  'read.stopped_partitions': StoppedPartitionTable
  'read.tiers_heads': TierMemberTable
}

export type ReadAccountTable = {
  id: string
  owner: string
  currency: string
  exponent: number
  type: string
  status: 'open' | 'closed'
  frozen: 'all' | 'debits' | 'credits' | null
  ledger_balance: string
  held: string
  available: string
  overdraft_limit: string
  metadata: Record<string, unknown>
  version: string
  last_event_id: string
  opened_at: Date
  as_of: Date
}

export type OffsetTable = {
  projection: string
  topic: string
  partition: number
  topic_id: string
  next_offset: string
  through_at: Date | null
}

export type HeartbeatTable = {
  projection: string
  partition: number
  occurred_at: Date
  applied_at: Date
}

export type QuarantineTable = {
  projection: string
  account_id: string
  code: string
  detail: string
  wanted: string | null
  seen: string | null
  highest: string
  topic: string
  partition: number
  record_offset: string | null
  since: Date
  skip_through: string | null
  attempts: number
  next_attempt_at: Date
  problem: string | null
  problem_detail: string | null
}

export type ReadAuditTable = {
  id: string
  at: Date
  caller: string
  role: string
  action: string
  projection: string
  account_id: string | null
  partition: number | null
  reason: string | null
  before: Record<string, unknown>
  after: Record<string, unknown>
}

export type StoppedPartitionTable = {
  projection: string
  topic: string
  partition: number
  code: string
  detail: string
  topic_id: string
  next_offset: string
  found_topic_id: string
  since: Date
  asked_at: Date | null
}

export type TierMemberTable = {
  account_id: string
  version: string
  last_event_id: string
  currency: string
  tier: number
  balance: string
}
