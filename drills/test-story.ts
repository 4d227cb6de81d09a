import { randomUUID } from 'node:crypto'
import type { CommandKind, HistoryEntry } from './history.ts'
import type { Quarantined } from './quarantine-log.ts'
import type {
  Entry,
  LedgerAccount,
  LedgerEvent,
  LedgerHold,
  OutboxRow,
  ReadAccount,
} from './tables.ts'
import type { TopicRecord } from './topic-reader.ts'

// What a drill would find if all went well, told event by event.

type Said = {
  balance?: number
  held?: number
  available?: number
  status?: string
  [field: string]: unknown
}

const opening = {
  owner: 'Ada',
  currency: 'EUR',
  exponent: 2,
  type: 'current',
  overdraftLimit: '0',
  metadata: { branch: 'north', desk: 7 },
}

/** An event of an account, such as `a@2`, with what it says of the account after it. */
export function outboxRow(position: number, name: string, type: string, said: Said): OutboxRow {
  const [account = '', version = ''] = name.split('@')
  const { balance = 0, held = 0, available = balance - held, status = 'open', ...fields } = said
  const usual = type === 'AccountOpened.v1' ? opening : { amount: '10' }
  const [ledgerBalance, kept, free] = [balance, held, available].map(String)
  const after = { ledgerBalance, held: kept, available: free, status }
  return {
    position: String(position),
    id: randomUUID(),
    aggregatetype: 'account',
    aggregateid: account,
    aggregateversion: version,
    type,
    time: '2026-11-21T08:00:00.120000Z',
    source: 'urn:sluice:command-api',
    specversion: '1.0',
    correlationid: `key-${position}`,
    causationid: 'cause',
    traceparent: 'trace',
    payload: JSON.stringify({ ...usual, ...fields, after }),
  }
}

export function recordOf(row: OutboxRow, offset: number): TopicRecord {
  return {
    partition: 3,
    offset: BigInt(offset),
    appendedMs: 1_000 + offset,
    key: row.aggregateid,
    value: row.payload,
    headers: [
      ['id', row.id],
      ['ce_type', row.type],
      ['ce_sequence', row.aggregateversion],
      ['ce_time', row.time],
      ['ce_source', row.source],
      ['ce_specversion', row.specversion],
      ['ce_id', row.id],
      ['ce_correlationid', row.correlationid],
      ['ce_causationid', row.causationid],
      ['traceparent', row.traceparent],
      ['content-type', 'application/json'],
    ],
  }
}

function eventOf(row: OutboxRow): LedgerEvent {
  return {
    account_id: row.aggregateid,
    version: row.aggregateversion,
    id: row.id,
    type: row.type,
    time: row.time,
    payload: row.payload,
    correlationid: row.correlationid,
    outbox_position: row.position,
  }
}

/** As an account is before its first event. */
export const account = (id: string): LedgerAccount => ({
  id,
  owner: 'Ada',
  currency: 'EUR',
  exponent: '2',
  type: 'current',
  status: 'open',
  frozen: null,
  ledger_balance: '0',
  held: '0',
  overdraft_limit: '0',
  // As jsonb gives it: in another order, with spaces.
  metadata: '{"desk": 7, "branch": "north"}',
  version: '0',
})

export type Story = ReturnType<typeof emptyStory>

function emptyStory() {
  return {
    tables: {
      outbox: [] as OutboxRow[],
      events: [] as LedgerEvent[],
      accounts: [] as LedgerAccount[],
      entries: [] as Entry[],
      holds: [] as LedgerHold[],
      readAccounts: [] as ReadAccount[],
      progress: { next: 1n, gaps: [] as (readonly [bigint, bigint])[] },
    },
    records: [] as TopicRecord[],
    samples: [] as { next: bigint; gaps: (readonly [bigint, bigint])[]; atMs: number }[],
    history: [] as HistoryEntry[],
    quarantined: [] as Quarantined[],
  }
}

/** Adds an event and all that follows from it but for what its caller was told. */
export function tell(told: Story, row: OutboxRow, changes: Partial<LedgerAccount> = {}): void {
  const { tables, records } = told
  const { aggregateid: id, aggregateversion: version, type } = row
  if (type === 'AccountOpened.v1') {
    tables.accounts.push(account(id))
    tables.readAccounts.push({ ...account(id), available: '0', last_event_id: '' })
  }
  const [own, read] = [tables.accounts, tables.readAccounts].map((rows) =>
    rows.find((each) => each.id === id),
  )
  const { after } = JSON.parse(row.payload) as { after: Record<string, string> }
  const { ledgerBalance: balance = '0', held, available = '0', status = 'open' } = after
  const amount = String(BigInt(balance) - BigInt(own?.ledger_balance ?? 0))
  if (amount !== '0') addEntries(tables.entries, row, amount)
  const state = { ledger_balance: balance, held, status, version, ...changes }
  Object.assign(own ?? {}, state)
  Object.assign(read ?? {}, state, { available, last_event_id: row.id })
  tables.outbox.push(row)
  const behind = tables.events.findLastIndex((event) => event.account_id <= id)
  tables.events.splice(behind + 1, 0, eventOf(row))
  records.push(recordOf(row, records.length))
  tables.progress.next = BigInt(row.position) + 1n
}

/** Of a transfer each event has its half; of the rest the other half is the bank's cash. */
function addEntries(entries: Entry[], row: OutboxRow, amount: string): void {
  const common = { transaction_id: `t-${row.correlationid}`, currency: 'EUR' }
  const { aggregateid: account_id, aggregateversion: account_version } = row
  entries.push({ ...common, account_id, account_version, amount })
  if (row.type.startsWith('FundsTransferred')) return
  const cash = { account_id: 'sluice-cash-EUR', account_version: null }
  entries.push({ ...common, ...cash, amount: String(-BigInt(amount)) })
}

/** An accepted command whose key ends in the position of its first event. */
export function command(kind: CommandKind, position: number, name: string): HistoryEntry {
  const [id = '', version] = name.split('@')
  return {
    key: `key-${position}`,
    kind,
    account: id,
    amount: kind === 'open' || kind === 'close' ? 0n : 10n,
    sentMs: 0,
    first: 'ok',
    final: 'ok',
    status: 201,
    version: Number(version),
  }
}

/** Two accounts, opened; one given 10 twice; one event repeated at the end. */
export function story(): Story {
  const told = emptyStory()
  tell(told, outboxRow(1, 'a@1', 'AccountOpened.v1', {}))
  tell(told, outboxRow(2, 'b@1', 'AccountOpened.v1', {}))
  tell(told, outboxRow(4, 'a@2', 'FundsDeposited.v1', { balance: 10 }))
  tell(told, outboxRow(5, 'a@3', 'FundsDeposited.v1', { balance: 20 }))
  told.records.push(recordOf(told.tables.outbox[2]!, 4))
  // The first of these is 1 ms early, which clocks cannot tell, and leaves out what is late.
  told.samples.push({ next: 6n, gaps: [[3n, 5n]], atMs: 1_000 })
  told.samples.push({ next: 5n, gaps: [[2n, 3n]], atMs: 1_002 })
  told.history.push(command('open', 1, 'a@1'), command('deposit', 4, 'a@2'))
  told.history.push(command('deposit', 5, 'a@3'), command('open', 2, 'b@1'))
  return told
}

const [capturedHold, expiredHold] = ['hold-1', 'hold-2']
const soon = '2026-11-21T08:00:01.000Z'
const past = '2026-11-21T08:00:00.120Z'

/**
 * The same, and then of a's 20 one hold of 10 captured for 4, one of 5 expired, and the capture
 * reversed.
 */
export function storyWithHolds(): Story {
  const told = story()
  const { holds } = told.tables
  const placed = { holdId: capturedHold, amount: '10', expiresAt: soon, balance: 20, held: 10 }
  tell(told, outboxRow(6, 'a@4', 'HoldPlaced.v1', placed))
  const taken = { holdId: capturedHold, amount: '4', released: '6', balance: 16, held: 0 }
  tell(told, outboxRow(7, 'a@5', 'HoldCaptured.v1', taken))
  const second = { holdId: expiredHold, amount: '5', expiresAt: past, balance: 16, held: 5 }
  tell(told, outboxRow(8, 'a@6', 'HoldPlaced.v1', second))
  const over = { holdId: expiredHold, amount: '5', balance: 16, held: 0 }
  tell(told, outboxRow(9, 'a@7', 'HoldExpired.v1', over))
  const back = { reversedTransactionId: 't-key-7', direction: 'credit', amount: '4', balance: 20 }
  tell(told, outboxRow(10, 'a@8', 'TransactionReversed.v1', back))
  holds.push({ id: capturedHold, account_id: 'a', amount: '10', status: 'captured' })
  holds.push({ id: expiredHold, account_id: 'a', amount: '5', status: 'expired' })
  told.history.push(command('hold', 6, 'a@4'), { ...command('capture', 7, 'a@5'), amount: 4n })
  told.history.push({ ...command('hold', 8, 'a@6'), amount: 5n })
  told.history.push({ ...command('reverse', 10, 'a@8'), amount: 4n })
  return told
}

/** Changes what an event says, by its version on a; the record says so too. */
export function resay({ tables, records }: Story, version: number, said: object): void {
  const found = [
    tables.events.find((event) => event.account_id === 'a' && event.version === String(version)),
    tables.outbox.find(
      (row) => row.aggregateid === 'a' && row.aggregateversion === String(version),
    ),
  ]
  const payload = JSON.stringify({ ...JSON.parse(found[0]!.payload), ...said })
  for (const each of found) each!.payload = payload
  for (const record of records) {
    const isIts = (header: readonly [string, unknown]) =>
      header[0] === 'id' && header[1] === found[0]!.id
    if (record.headers.some(isIts)) record.value = payload
  }
}

/** The same, and then 10 from a to b by one command. */
export function storyWithTransfer() {
  const told = story()
  const into = outboxRow(7, 'b@2', 'FundsTransferredIn.v1', { balance: 10 })
  tell(told, outboxRow(6, 'a@4', 'FundsTransferredOut.v1', { balance: 10 }))
  tell(told, { ...into, correlationid: 'key-6' })
  const transfer = { ...command('transfer', 6, 'a@4'), to: 'b' }
  told.history.push(transfer)
  return { ...told, transfer }
}
