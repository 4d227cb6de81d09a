import { ask } from './sql.ts'

// What the checker reads of the databases: its own SQL, every column as PostgreSQL's own text.

export type OutboxRow = {
  position: string
  id: string
  aggregatetype: string
  aggregateid: string
  aggregateversion: string
  type: string
  time: string
  source: string
  specversion: string
  correlationid: string
  causationid: string
  traceparent: string
  payload: string
}

export type LedgerEvent = {
  account_id: string
  version: string
  id: string
  type: string
  /** RFC 3339 in UTC. */
  time: string
  payload: string
  correlationid: string
  outbox_position: string
}

/** What both sides keep of an account. */
export type LedgerAccount = {
  id: string
  owner: string
  currency: string
  exponent: string
  type: string
  status: string
  frozen: string | null
  ledger_balance: string
  held: string
  overdraft_limit: string
  metadata: string
  version: string
}

export type ReadAccount = LedgerAccount & { available: string; last_event_id: string }
export type Entry = {
  transaction_id: string
  account_id: string
  account_version: string | null
  currency: string
  amount: string
}

export type LedgerHold = { id: string; account_id: string; amount: string; status: string }

export type Tables = {
  outbox: OutboxRow[]
  events: LedgerEvent[]
  accounts: LedgerAccount[]
  entries: Entry[]
  holds: LedgerHold[]
  readAccounts: ReadAccount[]
  progress: SavedProgress
}

/** What the relay says is published: all below `next`, minus the gaps. */
export type SavedProgress = { next: bigint; gaps: readonly (readonly [bigint, bigint])[] }

const outboxColumns = `type, to_char(occurred_at at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as time, correlationid, causationid, traceparent,
  payload::text as payload`
const outboxText = `
  select position, id, aggregatetype, aggregateid, aggregateversion, source, specversion,
         ${outboxColumns}
    from outbox.events order by position`
/** What was in the queue, where partitions of it have gone: the ledger has every event for ever. */
const retiredText = `
  select outbox_position as position, id, 'account' as aggregatetype, account_id as aggregateid,
         version as aggregateversion, 'urn:sluice:command-api' as source, '1.0' as specversion,
         ${outboxColumns}
    from ledger.account_events order by outbox_position`

const accountColumns = `id, owner, currency, exponent::text as exponent, type, status, frozen,
  ledger_balance, held, overdraft_limit, metadata::text as metadata, version`

type Sides = { writeUrl: string; readUrl: string }

export async function readTables(
  { writeUrl, readUrl }: Sides,
  { retired = false } = {},
): Promise<Tables> {
  return {
    outbox: await ask<OutboxRow>(writeUrl, retired ? retiredText : outboxText),
    events: await ask<LedgerEvent>(
      writeUrl,
      `select account_id, version, id, type, payload::text as payload, correlationid,
              outbox_position, to_char(occurred_at at time zone 'UTC',
                'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as time
         from ledger.account_events order by account_id, version`,
    ),
    accounts: await ask<LedgerAccount>(writeUrl, `select ${accountColumns} from ledger.accounts`),
    entries: await ask<Entry>(
      writeUrl,
      `select transaction_id, account_id, account_version, currency, amount from ledger.entries`,
    ),
    holds: await ask<LedgerHold>(
      writeUrl,
      `select id, account_id, amount, status from ledger.holds`,
    ),
    readAccounts: await ask<ReadAccount>(
      readUrl,
      `select ${accountColumns}, available, last_event_id from read.accounts`,
    ),
    progress: progressOf(
      (await ask<ProgressRow>(writeUrl, progressText))[0] ?? { next: '1', gaps: '' },
    ),
  }
}

export type ProgressRow = { next: string; gaps: string; epoch: string }

/** In one snapshot, with the server's clock after it was taken. */
export const progressText = `
  select next_position::text as next, epoch::text as epoch,
         (select coalesce(string_agg(first_position || '-' || last_position, ','
                                     order by first_position), '') from outbox.gaps) as gaps,
         extract(epoch from clock_timestamp())::float8 * 1000 as at_ms
    from outbox.relay`

export function progressOf({ next, gaps }: Pick<ProgressRow, 'next' | 'gaps'>): SavedProgress {
  const ranges = gaps.split(',').filter((range) => range !== '')
  return {
    next: BigInt(next),
    gaps: ranges.map((range) => {
      const [first = '', last = ''] = range.split('-')
      return [BigInt(first), BigInt(last)] as const
    }),
  }
}
