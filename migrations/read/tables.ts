/** The read database, as Kysely sees it. bigint columns arrive as strings of digits. */
export type ReadDatabase = {
  'read.accounts': ReadAccountTable
  'read.offsets': OffsetTable
  'read.heartbeats': HeartbeatTable
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
}

export type HeartbeatTable = {
  projection: string
  partition: number
  occurred_at: Date
  applied_at: Date
}
