import { isDeepStrictEqual } from 'node:util'
import type { Finding } from './findings.ts'
import { checkHolds } from './hold-check.ts'
import type {
  Entry,
  LedgerAccount,
  LedgerEvent,
  LedgerHold,
  OutboxRow,
  ReadAccount,
} from './tables.ts'

// I4, I5 and I6: the events folded anew, against the account rows of both sides and the double
// entry. The fold knows event types by name and amounts by field; it shares nothing with either side.

type Fold = {
  version: bigint
  balance: bigint
  held: bigint
  overdraftLimit: bigint
  status: string
  frozen: string | null
  owner: string
  currency: string
  exponent: string
  type: string
  metadata: unknown
  /** Of the last event. */
  id: string
}

export type AccountInput = {
  outbox: readonly OutboxRow[]
  /** By account, then version. */
  events: readonly LedgerEvent[]
  accounts: readonly LedgerAccount[]
  entries: readonly Entry[]
  holds: readonly LedgerHold[]
  readAccounts: readonly ReadAccount[]
}

export function checkAccounts(input: AccountInput): {
  findings: Finding[]
  /** Minor units by which the read side's money differs from the write side's. */
  moneyDrift: bigint
} {
  const { events, accounts, readAccounts, entries, holds, outbox } = input
  const findings: Finding[] = []
  const report = (promise: Finding['promise'], what: string) => findings.push({ promise, what })
  const folds = foldAll(events, report)
  checkOutbox(outbox, events, report)
  checkWriteSide(accounts, folds, report)
  checkReadSide(readAccounts, folds, report)
  checkEntries(entries, accounts, report)
  findings.push(...checkHolds(holds, events))
  const sum = (rows: readonly { ledger_balance: string }[]) =>
    rows.reduce((total, row) => total + BigInt(row.ledger_balance), 0n)
  const drift = sum(readAccounts) - sum(accounts)
  if (drift !== 0n) report('I6', `the read side has ${drift} minor units more than the write side`)
  return { findings, moneyDrift: drift < 0n ? -drift : drift }
}

type Report = (promise: Finding['promise'], what: string) => void

function foldAll(events: readonly LedgerEvent[], report: Report): Map<string, Fold> {
  const folds = new Map<string, Fold>()
  for (const event of events) {
    const { account_id: account } = event
    const fold = folds.get(account) ?? newFold()
    if (BigInt(event.version) !== fold.version + 1n) {
      report('I5', `${account} has version ${event.version} after ${fold.version}`)
    }
    fold.version = BigInt(event.version)
    fold.id = event.id
    applyEvent(fold, event, report)
    folds.set(account, fold)
  }
  return folds
}

function newFold(): Fold {
  const empty = { owner: '', currency: '', exponent: '', type: '', metadata: undefined, id: '' }
  const nothing = { version: 0n, balance: 0n, held: 0n, overdraftLimit: 0n }
  return { ...nothing, status: 'open', frozen: null, ...empty }
}

type Payload = {
  amount?: string
  /** Of a capture: the rest of the hold. */
  released?: string
  direction?: string
  overdraftLimit?: string
  owner?: string
  currency?: string
  exponent?: number
  type?: string
  metadata?: unknown
  scope?: string
  after?: { ledgerBalance?: string; held?: string; available?: string; status?: string }
}

function applyEvent(fold: Fold, event: LedgerEvent, report: Report): void {
  const payload = JSON.parse(event.payload) as Payload
  const name = `${event.account_id} version ${event.version}`
  if (!changeFold(fold, event.type, payload)) report('I5', `${name}: unknown event ${event.type}`)
  const { ledgerBalance, held, available, status } = payload.after ?? {}
  const said = [ledgerBalance, held, available, status].join()
  const folded = [fold.balance, fold.held, availableOf(fold), fold.status].join()
  if (said !== folded) report('I5', `${name} says ${said}, the fold says ${folded}`)
  if (availableOf(fold) < 0n) report('I6', `${name} is below its limit`)
}

/** False of a type that is not known here. */
function changeFold(fold: Fold, type: string, payload: Payload): boolean {
  const { amount = '0', overdraftLimit = '0', owner = '', metadata } = payload
  switch (type) {
    case 'AccountOpened.v1':
      fold.currency = payload.currency ?? ''
      fold.exponent = String(payload.exponent)
      fold.type = payload.type ?? ''
      Object.assign(fold, { owner, metadata, overdraftLimit: BigInt(overdraftLimit) })
      return true
    case 'FundsDeposited.v1':
    case 'FundsTransferredIn.v1':
      fold.balance += BigInt(amount)
      return true
    case 'FundsWithdrawn.v1':
    case 'FundsTransferredOut.v1':
      fold.balance -= BigInt(amount)
      return true
    case 'TransactionReversed.v1':
      fold.balance += payload.direction === 'credit' ? BigInt(amount) : -BigInt(amount)
      return true
    case 'HoldPlaced.v1':
      fold.held += BigInt(amount)
      return true
    case 'HoldCaptured.v1':
      fold.balance -= BigInt(amount)
      fold.held -= BigInt(amount) + BigInt(payload.released ?? '')
      return true
    case 'HoldReleased.v1':
    case 'HoldExpired.v1':
      fold.held -= BigInt(amount)
      return true
    case 'AccountDetailsUpdated.v1':
      Object.assign(fold, { owner, metadata })
      return true
    case 'OverdraftLimitChanged.v1':
      fold.overdraftLimit = BigInt(overdraftLimit)
      return true
    case 'AccountFrozen.v1':
      fold.frozen = payload.scope ?? ''
      return true
    case 'AccountUnfrozen.v1':
      fold.frozen = null
      return true
    case 'AccountClosed.v1':
      fold.status = 'closed'
      return true
    case 'AccountReopened.v1':
      fold.status = 'open'
      return true
    default:
      return false
  }
}

function availableOf({ balance, held, overdraftLimit }: Fold): bigint {
  return balance - held + overdraftLimit
}

/** The queue and the ledger hold the same events of accounts. */
function checkOutbox(
  outbox: readonly OutboxRow[],
  events: readonly LedgerEvent[],
  report: Report,
): void {
  const queued = new Map(outbox.map((row) => [row.id, row]))
  for (const event of events) {
    const row = queued.get(event.id)
    const same = row?.position === event.outbox_position && row.payload === event.payload
    if (!same)
      report('I1', `event ${event.account_id}@${event.version} is not in the outbox as it is`)
    queued.delete(event.id)
  }
  for (const row of queued.values()) {
    if (row.type !== 'Heartbeat.v1')
      report('I2', `outbox ${row.position} is in no account's events`)
  }
}

function checkWriteSide(
  accounts: readonly LedgerAccount[],
  folds: ReadonlyMap<string, Fold>,
  report: Report,
): void {
  if (accounts.length !== folds.size) {
    report('I5', `${accounts.length} accounts, and events of ${folds.size}`)
  }
  for (const row of accounts) {
    const problem = difference(row, folds.get(row.id))
    if (problem !== undefined) report('I5', `write side, ${row.id}: ${problem}`)
  }
}

function checkReadSide(
  rows: readonly ReadAccount[],
  folds: ReadonlyMap<string, Fold>,
  report: Report,
): void {
  const found = new Map(rows.map((row) => [row.id, row]))
  for (const [id, fold] of folds) {
    const row = found.get(id)
    if (row === undefined) {
      report('I4', `read side: ${id} is not there`)
      continue
    }
    // An event lost, or an old one applied again, shows in what was applied last.
    const last = row.version === String(fold.version) && row.last_event_id === fold.id
    if (!last) report('I4', `read side, ${id}: at version ${row.version} of ${fold.version}`)
    const problem = difference(row, fold)
    if (problem !== undefined) report('I5', `read side, ${id}: ${problem}`)
    const available = String(availableOf(fold))
    if (row.available !== available) {
      report('I5', `read side, ${id}: available ${row.available}, fold ${available}`)
    }
  }
  for (const id of found.keys()) if (!folds.has(id)) report('I5', `read side: ${id} has no events`)
}

function difference(row: LedgerAccount, fold: Fold | undefined): string | undefined {
  if (fold === undefined) return 'it has no events'
  const columns: [name: string, found: string | null, folded: string | null][] = [
    ['version', row.version, String(fold.version)],
    ['balance', row.ledger_balance, String(fold.balance)],
    ['held', row.held, String(fold.held)],
    ['overdraft limit', row.overdraft_limit, String(fold.overdraftLimit)],
    ['status', row.status, fold.status],
    ['frozen', row.frozen, fold.frozen],
    ['owner', row.owner, fold.owner],
    ['currency', row.currency, fold.currency],
    ['exponent', row.exponent, fold.exponent],
    ['type', row.type, fold.type],
  ]
  for (const [name, found, folded] of columns) {
    if (found !== folded) return `${name} ${found}, fold ${folded}`
  }
  // The column is jsonb, which has its own order and spaces.
  return isDeepStrictEqual(JSON.parse(row.metadata), fold.metadata) ? undefined : 'other metadata'
}

function checkEntries(
  entries: readonly Entry[],
  accounts: readonly LedgerAccount[],
  report: Report,
): void {
  const byTransaction = new Map<string, bigint>()
  const byAccount = new Map<string, bigint>()
  const add = (sums: Map<string, bigint>, key: string, amount: bigint) =>
    sums.set(key, (sums.get(key) ?? 0n) + amount)
  for (const { transaction_id, currency, account_id, amount } of entries) {
    add(byTransaction, `${transaction_id} in ${currency}`, BigInt(amount))
    add(byAccount, account_id, BigInt(amount))
  }
  for (const [transaction, sum] of byTransaction) {
    if (sum !== 0n) report('I6', `transaction ${transaction} sums to ${sum}`)
  }
  for (const { id, ledger_balance } of accounts) {
    const sum = byAccount.get(id) ?? 0n
    if (String(sum) !== ledger_balance) {
      report('I6', `${id} has ${ledger_balance}, its entries sum to ${sum}`)
    }
  }
}
