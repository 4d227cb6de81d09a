// A small bank that knows nothing of the code it is held against: written from what accounts promise.
// Where several things forbid a command it names them all, since which is said first is no promise.
// Everything is a value: a bank after a command is another bank.

export type Hold = { amount: bigint; expiresAt: string; status: string }

/** What a transaction moved on one account. */
type Line = { amount: bigint; isReversal: boolean; reversedBy: string | null }

export type Account = {
  id: string
  owner: string
  currency: string
  type: string
  isClosed: boolean
  freeze: string | null
  ledger: bigint
  overdraftLimit: bigint
  version: number
  openedAt: string
  asOf: string
  holds: ReadonlyMap<string, Hold>
  lines: ReadonlyMap<string, Line>
}

export type Bank = ReadonlyMap<string, Account>

type OnAccount = { account: string; ifMatch?: number | undefined }
type Amount = { amount: bigint; currency?: string | undefined }

export type Asked =
  | (OnAccount & {
      kind: 'OpenAccount'
      owner: string
      currency: string
      type: string
      overdraftLimit: bigint
      openingDeposit: bigint | null
    })
  | (OnAccount & Amount & { kind: 'Deposit' | 'Withdraw' | 'ForceDebit' | 'PlaceHold' })
  | (Amount & { kind: 'Transfer'; from: string; to: string })
  | (OnAccount & { kind: 'CaptureHold'; hold: string; amount: bigint | null })
  | (OnAccount & { kind: 'ReleaseHold' | 'ExpireHold'; hold: string })
  | (OnAccount & { kind: 'FreezeAccount'; scope: string })
  | (OnAccount & { kind: 'UnfreezeAccount' | 'CloseAccount' | 'ReopenAccount' })
  | (OnAccount & { kind: 'ChangeOverdraftLimit'; overdraftLimit: bigint })
  | (OnAccount & { kind: 'UpdateAccountDetails'; owner: string })
  | { kind: 'ReverseTransaction'; transaction: string }

/** What a caller is told that only the other side can know. */
export type Made = { at: string; transaction?: string; hold?: string; expiresAt?: string }

export type Rules = typeof rules

const mostMinor = 10n ** 18n - 1n

const heldOn = (account: Account) =>
  [...account.holds.values()]
    .filter(({ status }) => status === 'active')
    .reduce((sum, { amount }) => sum + amount, 0n)

/** The rules that a bank could get wrong. A bank made with another one is one that does. */
export const rules = {
  forceDebitLimit: 100n,
  available: (account: Account) => account.ledger - heldOn(account) + account.overdraftLimit,
  stopsDebits: (freeze: string | null): boolean => freeze === 'all' || freeze === 'debits',
  stopsCredits: (freeze: string | null): boolean => freeze === 'all' || freeze === 'credits',
  isDue: (hold: Hold, at: string) => hold.expiresAt <= at,
  isReversed: (line: Line) => line.reversedBy !== null,
  mayClose: (account: Account) => account.ledger === 0n,
  currencyIs: (account: Account, currency: string | undefined) =>
    currency === undefined || currency === account.currency,
  captured: (hold: Hold, amount: bigint | null) => amount ?? hold.amount,
}

/** Codes of everything that forbids a command; none when it must be accepted. */
export function refusals(rule: Rules, bank: Bank, asked: Asked, at: string): string[] {
  if (asked.kind === 'Transfer') return transferFaults(rule, bank, asked)
  if (asked.kind === 'ReverseTransaction') return reversalFaults(rule, bank, asked.transaction)
  const account = bank.get(asked.account)
  if (asked.kind === 'OpenAccount') {
    const known = ['EUR', 'USD', 'JPY'].includes(asked.currency)
    return faults([account !== undefined, 'account_id_taken'], [!known, 'unsupported_currency'])
  }
  if (account === undefined) return ['account_not_found']
  const isStale = asked.ifMatch !== undefined && asked.ifMatch !== account.version
  return [
    ...faults([isStale, 'version_conflict']),
    ...(asked.kind === 'ReopenAccount'
      ? faults([!account.isClosed, 'account_not_closed'])
      : account.isClosed
        ? ['account_closed']
        : openFaults(rule, account, asked, at)),
  ]
}

type OnOpen = Exclude<Asked, { kind: 'Transfer' | 'ReverseTransaction' | 'OpenAccount' }>

function openFaults(rule: Rules, account: Account, asked: OnOpen, at: string): string[] {
  switch (asked.kind) {
    case 'Deposit':
      return [...currencyFaults(rule, account, asked), ...creditFaults(rule, account, asked.amount)]
    case 'Withdraw':
      return [...currencyFaults(rule, account, asked), ...debitFaults(rule, account, asked.amount)]
    case 'PlaceHold':
      return [
        ...currencyFaults(rule, account, asked),
        ...debitFaults(rule, account, asked.amount),
        ...faults([heldOn(account) + asked.amount > mostMinor, 'balance_limit_exceeded']),
      ]
    case 'ForceDebit': {
      const tooFar = rule.available(account) - asked.amount < -rule.forceDebitLimit
      return [...currencyFaults(rule, account, asked), ...faults([tooFar, 'force_limit_exceeded'])]
    }
    case 'CaptureHold':
    case 'ReleaseHold':
    case 'ExpireHold':
      return holdFaults(rule, account, asked, at)
    case 'FreezeAccount':
      return faults([account.freeze === asked.scope, 'already_frozen'])
    case 'UnfreezeAccount':
      return faults([account.freeze === null, 'not_frozen'])
    case 'ChangeOverdraftLimit': {
      const isLowered = asked.overdraftLimit < account.overdraftLimit
      const isInUse = account.ledger - heldOn(account) + asked.overdraftLimit < 0n
      return faults([isLowered && isInUse, 'below_current_usage'])
    }
    case 'CloseAccount':
      return faults(
        [account.freeze !== null, 'account_frozen'],
        [heldOn(account) !== 0n, 'active_holds'],
        [!rule.mayClose(account), 'balance_not_zero'],
      )
    default:
      return []
  }
}

function faults(...found: readonly (readonly [boolean, string])[]): string[] {
  return found.flatMap(([is, code]) => (is ? [code] : []))
}

const currencyFaults = (rule: Rules, account: Account, { currency }: Amount) =>
  faults([!rule.currencyIs(account, currency), 'currency_mismatch'])

const debitFaults = (rule: Rules, account: Account, amount: bigint) =>
  faults(
    [rule.stopsDebits(account.freeze), 'account_frozen'],
    [amount > rule.available(account), 'insufficient_funds'],
  )

const creditFaults = (rule: Rules, account: Account, amount: bigint) =>
  faults(
    [rule.stopsCredits(account.freeze), 'account_frozen'],
    [account.ledger + amount > mostMinor, 'balance_limit_exceeded'],
  )

type OnHold = Extract<Asked, { hold: string }>

function holdFaults(rule: Rules, account: Account, asked: OnHold, at: string): string[] {
  const hold = account.holds.get(asked.hold)
  if (hold === undefined) return ['hold_not_found']
  const isOver = hold.status !== 'active'
  if (asked.kind !== 'CaptureHold') return faults([isOver, 'hold_not_active'])
  return faults(
    [isOver || rule.isDue(hold, at), 'hold_not_active'],
    [rule.stopsDebits(account.freeze), 'account_frozen'],
    [rule.captured(hold, asked.amount) > hold.amount, 'exceeds_held_amount'],
  )
}

type Transfer = Extract<Asked, { kind: 'Transfer' }>

function transferFaults(rule: Rules, bank: Bank, asked: Transfer): string[] {
  if (asked.from === asked.to) return ['same_account']
  const [from, to] = [bank.get(asked.from), bank.get(asked.to)]
  const known = [from, to].filter((account) => account !== undefined)
  const early = faults(
    [known.length < 2, 'account_not_found'],
    [known.some(({ isClosed }) => isClosed), 'account_closed'],
  )
  if (early.length > 0 || from === undefined || to === undefined) return early
  const isOther = from.currency !== to.currency || !rule.currencyIs(from, asked.currency)
  return [
    ...faults([isOther, 'currency_mismatch']),
    ...debitFaults(rule, from, asked.amount),
    ...creditFaults(rule, to, asked.amount),
  ]
}

function reversalFaults(rule: Rules, bank: Bank, transaction: string): string[] {
  const touched = accountsOfTransaction(bank, transaction)
  if (touched.length === 0) return ['transaction_not_found']
  return touched.flatMap(({ account, line }) => [
    ...faults(
      [line.isReversal, 'not_reversible'],
      [rule.isReversed(line), 'already_reversed'],
      [account.isClosed, 'account_closed'],
    ),
    ...(line.amount > 0n
      ? debitFaults(rule, account, line.amount)
      : creditFaults(rule, account, -line.amount)),
  ])
}

function accountsOfTransaction(bank: Bank, transaction: string) {
  return [...bank.values()].flatMap((account) => {
    const line = account.lines.get(transaction)
    return line === undefined ? [] : [{ account, line }]
  })
}

/** The accounts that a command changes or would, as they are before it. */
export function touchedBy(bank: Bank, asked: Asked): string[] {
  if (asked.kind === 'Transfer') return [asked.from, asked.to]
  if (asked.kind !== 'ReverseTransaction') return [asked.account]
  return accountsOfTransaction(bank, asked.transaction).map(({ account }) => account.id)
}

/** The bank after a command that nothing forbids. */
export function after(rule: Rules, bank: Bank, asked: Asked, made: Made): Bank {
  return new Map([
    ...bank,
    ...changed(rule, bank, asked, made).map((each) => [each.id, each] as const),
  ])
}

function changed(rule: Rules, bank: Bank, asked: Asked, made: Made): Account[] {
  if (asked.kind === 'OpenAccount') return [opened(asked, made)]
  const [transaction, next] = [made.transaction ?? '', (id: string) => stepped(bank, id, made.at)]
  if (asked.kind === 'ReverseTransaction') {
    return accountsOfTransaction(bank, asked.transaction).map(({ account, line }) => {
      const lines = new Map(account.lines)
      lines.set(asked.transaction, { ...line, reversedBy: transaction })
      return moved({ ...next(account.id), lines }, -line.amount, transaction, true)
    })
  }
  if (asked.kind === 'Transfer') {
    const { from, to, amount } = asked
    return [moved(next(from), -amount, transaction), moved(next(to), amount, transaction)]
  }
  const account = next(asked.account)
  switch (asked.kind) {
    case 'Deposit':
      return [moved(account, asked.amount, transaction)]
    case 'Withdraw':
    case 'ForceDebit':
      return [moved(account, -asked.amount, transaction)]
    case 'PlaceHold': {
      const hold = { amount: asked.amount, expiresAt: made.expiresAt ?? '', status: 'active' }
      return [withHold(account, made.hold ?? '', hold)]
    }
    case 'CaptureHold': {
      const hold = account.holds.get(asked.hold) as Hold
      const ended = withHold(account, asked.hold, { ...hold, status: 'captured' })
      return [moved(ended, -rule.captured(hold, asked.amount), transaction)]
    }
    case 'ReleaseHold':
    case 'ExpireHold': {
      const status = asked.kind === 'ReleaseHold' ? 'released' : 'expired'
      const hold = account.holds.get(asked.hold) as Hold
      return [withHold(account, asked.hold, { ...hold, status })]
    }
    case 'FreezeAccount':
      return [{ ...account, freeze: asked.scope }]
    case 'UnfreezeAccount':
      return [{ ...account, freeze: null }]
    case 'ChangeOverdraftLimit':
      return [{ ...account, overdraftLimit: asked.overdraftLimit }]
    case 'UpdateAccountDetails':
      return [{ ...account, owner: asked.owner }]
    default:
      return [{ ...account, isClosed: asked.kind === 'CloseAccount' }]
  }
}

function opened(asked: Extract<Asked, { kind: 'OpenAccount' }>, { at }: Made): Account {
  const { account: id, owner, currency, type, overdraftLimit, openingDeposit } = asked
  return {
    id,
    owner,
    currency,
    type,
    overdraftLimit,
    isClosed: false,
    freeze: null,
    ledger: openingDeposit ?? 0n,
    version: openingDeposit === null ? 1 : 2,
    openedAt: at,
    asOf: at,
    holds: new Map(),
    lines: new Map(),
  }
}

function stepped(bank: Bank, id: string, at: string): Account {
  const account = bank.get(id)
  if (account === undefined) throw new Error(`nothing happens to ${id} before it is opened`)
  return { ...account, version: account.version + 1, asOf: at }
}

function moved(account: Account, amount: bigint, transaction: string, isReversal = false): Account {
  const line = { amount, isReversal, reversedBy: null }
  const lines = new Map([...account.lines, [transaction, line]])
  return { ...account, ledger: account.ledger + amount, lines }
}

const withHold = (account: Account, id: string, hold: Hold): Account => ({
  ...account,
  holds: new Map([...account.holds, [id, hold]]),
})

/** An account as callers must see it. */
export function resourceOf(rule: Rules, account: Account) {
  const { id, owner, currency, type, freeze, version, openedAt, asOf } = account
  return {
    id,
    owner,
    currency,
    type,
    freeze,
    version,
    openedAt,
    asOf,
    exponent: currency === 'JPY' ? 0 : 2,
    status: account.isClosed ? 'closed' : 'open',
    ledgerBalance: String(account.ledger),
    held: String(heldOn(account)),
    available: String(rule.available(account)),
    overdraftLimit: String(account.overdraftLimit),
    metadata: {},
  }
}
