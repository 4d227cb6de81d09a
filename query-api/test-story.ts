// A story of a bank, as command-api would have recorded it: some dozens of accounts, every type of
// event, both clocks stepping about. The same seed tells the same story, but for ids. It takes place
// in the year 2100, so that no clock calls any of it old.
import { randomUUID } from 'node:crypto'
import type { OutboxRow } from 'outbox-relay/wire'
import { outboxRow } from './test-events.ts'

/** Gives whole numbers below `end`, the same ones for the same seed. */
export function drawsOf(seed: number): (end: number) => number {
  let state = seed >>> 0
  return (end) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * end)
  }
}

type Moved = { transactionId: string; amount: bigint; from: Account | null; to: Account | null }

type Account = {
  id: string
  currency: string
  exponent: number
  version: number
  balance: bigint
  held: bigint
  limit: bigint
  isOpen: boolean
  holds: Map<string, bigint>
  /** What was not reversed yet. */
  moved: Moved[]
}

const currencies: readonly [string, number][] = [
  ['EUR', 2],
  ['JPY', 0],
  ['KWD', 3],
]
const owners = ['Ada Lovelace', 'Zoë Müller', 'Grace Hopper', `Søren "O'Neil", {1}`]
const references = [
  null,
  'rent of May',
  'invoice 20391',
  '"quoted", {text} \\ ',
  'Gehälter für Mai',
]
const startMs = Date.UTC(2100, 0, 1)

type Draw = (end: number) => number
type Act = (bank: Bank, account: Account) => void

/** Acts that cannot be done, such as a capture without a hold, become deposits. */
const acts: readonly (readonly [times: number, act: Act])[] = [
  [4, (bank, account) => bank.deposit(account, bank.amount())],
  [6, (bank, account) => bank.withdraw(account, bank.amount())],
  [2, (bank, account) => bank.withdraw(account, account.balance + account.limit - account.held)],
  [6, (bank, account) => bank.transfer(account)],
  [4, (bank, account) => bank.hold(account)],
  [2, (bank, account) => bank.capture(account)],
  [1, (bank, account) => bank.endHold(account, 'HoldReleased.v1')],
  [2, (bank, account) => bank.endHold(account, 'HoldExpired.v1')],
  [3, (bank, account) => bank.reverse(account)],
  [1, (bank, account) => bank.forceDebit(account)],
  [1, (bank, account) => bank.freeze(account)],
  [1, (bank, account) => bank.tell(account, 'AccountUnfrozen.v1', { reason: null })],
  [1, (bank, account) => bank.limit(account)],
  [2, (bank, account) => bank.details(account)],
  [2, (bank, account) => bank.close(account)],
]
const everyAct = acts.flatMap(([times, act]) => Array<Act>(times).fill(act))

/** The events in the order in which they were committed. */
export function storyOf(seed: number, { accounts = 30, steps = 450 } = {}): OutboxRow[] {
  const bank = new Bank(seed, accounts)
  for (let step = 0; step < steps; step += 1) {
    const account = bank.someone()
    if (account.version === 0) bank.open(account)
    else if (!account.isOpen) bank.reopen(account)
    else bank.pick(everyAct)(bank, account)
  }
  return bank.rows
}

class Bank {
  readonly rows: OutboxRow[] = []
  readonly #draw: Draw
  readonly #accounts: readonly Account[]

  constructor(seed: number, accounts: number) {
    this.#draw = drawsOf(seed)
    this.#accounts = Array.from({ length: accounts }, (_, index) => {
      const [currency, exponent] = currencies[index % currencies.length]!
      const money = { balance: 0n, held: 0n, limit: 0n }
      const state = { version: 0, isOpen: false, holds: new Map(), moved: [] }
      return { id: `story-${seed}-${index}`, currency, exponent, ...money, ...state }
    })
  }

  pick<T>(items: readonly T[]): T {
    return items[this.#draw(items.length)]!
  }

  someone(): Account {
    return this.pick(this.#accounts)
  }

  /** Now and then one that somebody is told of. */
  amount(): bigint {
    return BigInt(this.#draw(8) === 0 ? 1_000_000 + this.#draw(500_000) : 1 + this.#draw(50_000))
  }

  open(account: Account): void {
    account.isOpen = true
    account.limit = this.pick([0n, 0n, 5_000n])
    const { currency, exponent, limit } = account
    const type = this.pick(['current', 'savings'])
    const opening = { currency, exponent, type, overdraftLimit: String(limit) }
    this.tell(account, 'AccountOpened.v1', { ...this.#person(), ...opening })
  }

  deposit(account: Account, amount: bigint): void {
    this.#move(amount, { to: account })
    this.tell(account, 'FundsDeposited.v1', this.#movement(account, amount))
  }

  withdraw(account: Account, amount: bigint): void {
    if (amount <= 0n || amount > available(account)) return this.deposit(account, this.amount())
    this.#move(amount, { from: account })
    this.tell(account, 'FundsWithdrawn.v1', this.#movement(account, amount))
  }

  forceDebit(account: Account): void {
    const amount = this.amount()
    this.#move(amount, { from: account })
    const movement = { ...this.#movement(account, amount), reason: 'as decided' }
    this.tell(account, 'FundsForceDebited.v1', movement)
  }

  /** Two events, one after the other, each of which knows the other account. */
  transfer(from: Account): void {
    const amount = this.amount()
    const others = this.#accounts.filter(
      (each) => each !== from && each.isOpen && each.currency === from.currency,
    )
    if (others.length === 0 || amount > available(from)) return this.deposit(from, amount)
    const to = this.pick(others)
    this.#move(amount, { from, to })
    const movement = { ...this.#movement(from, amount), transferId: randomUUID() }
    this.tell(from, 'FundsTransferredOut.v1', { ...movement, counterpartyId: to.id })
    this.tell(to, 'FundsTransferredIn.v1', { ...movement, counterpartyId: from.id })
  }

  hold(account: Account): void {
    const amount = this.amount()
    if (amount > available(account)) return this.deposit(account, amount)
    const holdId = randomUUID()
    account.holds.set(holdId, amount)
    account.held += amount
    const { currency } = account
    const expiresAt = new Date(startMs + 86_400_000).toISOString()
    const held = { holdId, amount: String(amount), currency, expiresAt }
    this.tell(account, 'HoldPlaced.v1', { ...held, reference: this.pick(references) })
  }

  capture(account: Account): void {
    const [placed] = account.holds
    if (placed === undefined) return this.hold(account)
    const [holdId, held] = placed
    const amount = 1n + BigInt(this.#draw(Number(held)))
    this.#end(account, holdId)
    this.#move(amount, { from: account })
    const released = String(held - amount)
    this.tell(account, 'HoldCaptured.v1', { ...this.#movement(account, amount), holdId, released })
  }

  endHold(account: Account, type: 'HoldReleased.v1' | 'HoldExpired.v1'): void {
    const [placed] = account.holds
    if (placed === undefined) return this.hold(account)
    const [holdId, amount] = placed
    this.#end(account, holdId)
    this.tell(account, type, { holdId, amount: String(amount), currency: account.currency })
  }

  /** On both accounts, where there were two. */
  reverse(account: Account): void {
    const moved = account.moved.findLast(
      ({ from, to }) => from?.isOpen !== false && to?.isOpen !== false,
    )
    if (moved === undefined) return this.deposit(account, this.amount())
    const { transactionId: reversedTransactionId, amount, from, to } = moved
    const transactionId = randomUUID()
    for (const [back, other, direction] of [
      [from, to, 'credit'],
      [to, from, 'debit'],
    ] as const) {
      if (back === null) continue
      back.moved = back.moved.filter((each) => each !== moved)
      back.balance += direction === 'credit' ? amount : -amount
      const movement = { ...this.#movement(back, amount), transactionId, reversedTransactionId }
      const counterpartyId = other?.id ?? null
      this.tell(back, 'TransactionReversed.v1', { ...movement, direction, counterpartyId })
    }
  }

  freeze(account: Account): void {
    const scope = this.pick(['all', 'debits', 'credits'])
    this.tell(account, 'AccountFrozen.v1', { scope, reason: 'a court' })
  }

  limit(account: Account): void {
    const previousLimit = String(account.limit)
    account.limit = BigInt(this.#draw(9_000))
    const overdraftLimit = String(account.limit)
    this.tell(account, 'OverdraftLimitChanged.v1', { overdraftLimit, previousLimit })
  }

  details(account: Account): void {
    this.tell(account, 'AccountDetailsUpdated.v1', this.#person())
  }

  /** What is left goes first, or is made up for. */
  close(account: Account): void {
    for (const holdId of account.holds.keys()) {
      const amount = String(account.holds.get(holdId))
      this.#end(account, holdId)
      this.tell(account, 'HoldReleased.v1', { holdId, amount, currency: account.currency })
    }
    if (account.balance > 0n) this.withdraw(account, account.balance)
    if (account.balance < 0n) this.deposit(account, -account.balance)
    account.isOpen = false
    this.tell(account, 'AccountClosed.v1', {})
  }

  reopen(account: Account): void {
    account.isOpen = true
    this.tell(account, 'AccountReopened.v1', {})
  }

  /** Records an event, with the account as it is by now. */
  tell(account: Account, type: string, payload: object): void {
    account.version += 1
    const { id, version, balance, held, isOpen } = account
    const after = {
      version,
      ledgerBalance: String(balance),
      held: String(held),
      available: String(available(account)),
      status: isOpen ? 'open' : 'closed',
    }
    const at = this.#now().toISOString().replace('Z', '000Z')
    this.rows.push(
      outboxRow({ account: id, version, type, at, payload: { accountId: id, ...payload, after } }),
    )
  }

  #move(
    amount: bigint,
    { from = null, to = null }: { from?: Account | null; to?: Account | null },
  ): void {
    const moved = { transactionId: randomUUID(), amount, from, to }
    if (from !== null) from.balance -= amount
    if (to !== null) to.balance += amount
    for (const account of [from, to]) account?.moved.push(moved)
  }

  #end(account: Account, holdId: string): void {
    account.held -= account.holds.get(holdId)!
    account.holds.delete(holdId)
  }

  /** Of what was moved last. A movement may take effect days before or after it is recorded. */
  #movement({ currency, moved }: Account, amount: bigint) {
    const { transactionId } = moved.at(-1) ?? { transactionId: randomUUID() }
    const shiftMs = this.#draw(4) === 0 ? (this.#draw(9) - 4) * 86_400_000 : 0
    const effectiveAt = new Date(this.#now().getTime() + shiftMs).toISOString()
    const reference = this.pick(references)
    return { transactionId, amount: String(amount), currency, reference, effectiveAt }
  }

  #person() {
    const metadata = { branch: { city: this.pick(['Wuppertal', 'Graz']) }, rank: this.#draw(9) }
    return { owner: this.pick(owners), metadata }
  }

  /** A second or two for each event, by a clock that now and then steps back. */
  #now(): Date {
    const steppedBackMs = this.#draw(10) === 0 ? 90_000 : 0
    return new Date(startMs + this.rows.length * 1_500 - steppedBackMs)
  }
}

const available = ({ balance, limit, held }: Account) => balance + limit - held

/**
 * An event that never happened, as this version of the account: what another event said, with new
 * transactions, and about the account's own holds and transactions before it.
 */
export function strayEvent(
  like: OutboxRow,
  { account, version, before }: { account: string; version: number; before: readonly OutboxRow[] },
): OutboxRow {
  const own = before.filter((row) => row[3] === account && Number(row[4]) < version)
  const lastOwn = (name: string) =>
    own.map((row) => payloadOf(row)[name]).findLast((id) => id !== undefined) ?? randomUUID()
  const payload = payloadOf(like)
  const ids = {
    transactionId: randomUUID(),
    transferId: randomUUID(),
    holdId: like[5] === 'HoldPlaced.v1' ? randomUUID() : lastOwn('holdId'),
    reversedTransactionId: lastOwn('transactionId'),
  }
  const known = Object.entries(ids).filter(([name]) => name in payload)
  const after = { ...(payload['after'] as object), version }
  const said = { ...payload, ...Object.fromEntries(known), accountId: account, after }
  return outboxRow({ account, version, type: like[5], at: like[6], payload: said })
}

const payloadOf = (row: OutboxRow) => JSON.parse(row[12]) as Record<string, unknown>

/**
 * As a relay may publish events, which at least once does allow: some twice at once, whole stretches
 * anew, everything once more; and older ones after newer ones, up to the end.
 */
export function atLeastOnce(rows: readonly OutboxRow[], draw: Draw): OutboxRow[] {
  const sent: OutboxRow[] = []
  for (const [at, row] of rows.entries()) {
    sent.push(row)
    if (draw(3) === 0) sent.push(row)
    if (draw(12) === 0) sent.push(rows[draw(at + 1)]!)
    if (draw(60) === 0) sent.push(...rows.slice(at - Math.min(at, draw(90)), at + 1))
  }
  const older = Array.from({ length: 30 }, () => rows[draw(rows.length)]!)
  return [...sent, ...rows, ...older]
}
