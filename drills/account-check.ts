import type { Finding } from './findings.ts'
import type { Entry, LedgerAccount, LedgerEvent, OutboxRow, ReadAccount } from './tables.ts'

// I4, I5 and I6: the events folded anew, against the account rows of both sides and the double
// entry. The fold knows event types by name and amounts by field; it shares nothing with either side.

type Fold = {
  version: bigint
  balance: bigint
  /** Of holds no event is known here yet: nothing may be held. */
  held: bigint
  overdraftLimit: bigint
  status: string
  id: string
}

export type AccountInput = {
  outbox: readonly OutboxRow[]
  /** By account, then version. */
  events: readonly LedgerEvent[]
  accounts: readonly LedgerAccount[]
  entries: readonly Entry[]
  readAccounts: readonly ReadAccount[]
}

export function checkAccounts(input: AccountInput): {
  findings: Finding[]
  /** Minor units by which the read side's money differs from the write side's. */
  moneyDrift: bigint
} {
  const { events, accounts, readAccounts, entries, outbox } = input
  const findings: Finding[] = []
  const report = (promise: Finding['promise'], what: string) => findings.push({ promise, what })
  const folds = foldAll(events, report)
  checkOutbox(outbox, events, report)
  checkWriteSide(accounts, folds, report)
  checkReadSide(readAccounts, folds, report)
  checkEntries(entries, accounts, report)
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
    const fold = folds.get(account) ?? {
      version: 0n,
      balance: 0n,
      held: 0n,
      overdraftLimit: 0n,
      status: 'open',
      id: '',
    }
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

type Payload = {
  amount?: string
  overdraftLimit?: string
  after?: { ledgerBalance?: string; held?: string; available?: string; status?: string }
}

const credits = new Set(['FundsDeposited.v1', 'FundsTransferredIn.v1'])
const debits = new Set(['FundsWithdrawn.v1', 'FundsTransferredOut.v1'])

function applyEvent(fold: Fold, event: LedgerEvent, report: Report): void {
  const payload = JSON.parse(event.payload) as Payload
  const name = `${event.account_id} version ${event.version}`
  if (event.type === 'AccountOpened.v1') fold.overdraftLimit = BigInt(payload.overdraftLimit ?? '0')
  else if (credits.has(event.type)) fold.balance += BigInt(payload.amount ?? '0')
  else if (debits.has(event.type)) fold.balance -= BigInt(payload.amount ?? '0')
  else if (event.type === 'AccountClosed.v1') fold.status = 'closed'
  else report('I5', `${name}: unknown event ${event.type}`)
  const { ledgerBalance, held, available, status } = payload.after ?? {}
  const said = [ledgerBalance, held, available, status].join()
  const folded = [fold.balance, fold.held, availableOf(fold), fold.status].join()
  if (said !== folded) report('I5', `${name} says ${said}, the fold says ${folded}`)
  if (fold.balance + fold.overdraftLimit < 0n) report('I6', `${name} is below its limit`)
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
  if (row.version !== String(fold.version)) return `version ${row.version}, fold ${fold.version}`
  if (row.ledger_balance !== String(fold.balance)) {
    return `balance ${row.ledger_balance}, fold ${fold.balance}`
  }
  if (row.held !== String(fold.held)) return `held ${row.held}, fold ${fold.held}`
  if (row.overdraft_limit !== String(fold.overdraftLimit)) return 'another overdraft limit'
  return row.status === fold.status ? undefined : `${row.status}, fold ${fold.status}`
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
