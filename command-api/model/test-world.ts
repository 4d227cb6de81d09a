import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { expireHolds } from '../expiry.ts'
import type { Sent, TestApi } from '../test-api.ts'
import { decodeToken } from '../token.ts'
import {
  after,
  refusals,
  resourceOf,
  touchedBy,
  type Asked,
  type Bank,
  type Hold,
  type Made,
  type Rules,
} from './test-bank.ts'
import { askedBy, holdSeconds, requestOf, type Known, type Step } from './test-steps.ts'

/** A clock that stands still until it is moved. */
export class Clock {
  #nowMs = Date.parse('2026-01-02T03:04:05.678Z')
  now = () => new Date(this.#nowMs)
  at = () => this.now().toISOString()
  move(seconds: number): void {
    this.#nowMs += seconds * 1_000
  }
}

export type Answered = Awaited<ReturnType<TestApi['send']>>

/** What else than a command may happen between two commands. */
export type Turn =
  | { does: 'command' | 'dry run'; step: Step }
  | { does: 'repeat' | 'reuse a key'; ref: number }
  | { does: 'wait'; seconds: number }
  | { does: 'expire' }

/** The accounts of one run, in the API and, beside it, in the model. */
export class World {
  readonly prefix = `${randomUUID().slice(0, 8)}-`
  readonly known: Known & { holds: { id: string; account: string }[]; transactions: string[] }
  bank: Bank = new Map()
  readonly #api: TestApi
  readonly #rule: Rules
  readonly #clock: Clock
  readonly #sent: { path: string; sent: Sent; answer: Answered }[] = []

  constructor(api: TestApi, rule: Rules, clock: Clock) {
    this.#api = api
    this.#rule = rule
    this.#clock = clock
    this.known = {
      accounts: [0, 1, 2, 3].map((slot) => `${this.prefix}${slot}`),
      holds: [],
      transactions: [],
      versionOf: (id) => this.bank.get(id)?.version ?? 0,
    }
  }

  /** Opens three of the four accounts; the fourth is not there until a step opens it. */
  async begin(): Promise<void> {
    for (const account of this.known.accounts.slice(0, 3)) {
      const opening = { kind: 'OpenAccount', account, owner: 'Ada', currency: 'EUR' } as const
      const fields = { type: 'current', overdraftLimit: 20n, openingDeposit: 100n }
      await this.#command({ ...opening, ...fields })
    }
  }

  async take(turn: Turn): Promise<void> {
    if (turn.does === 'command') return this.#command(askedBy(turn.step, this.known))
    if (turn.does === 'dry run') return this.#dryRun(askedBy(turn.step, this.known))
    if (turn.does === 'wait') return this.#clock.move(turn.seconds)
    if (turn.does === 'repeat' || turn.does === 'reuse a key') {
      return this.#repeat(turn.ref, turn.does === 'repeat')
    }
    return this.#expire()
  }

  async #command(asked: Asked): Promise<void> {
    const { path, sent } = requestOf(asked, randomUUID())
    const answer = await this.#api.send(path, sent)
    this.#sent.push({ path, sent, answer })
    this.bank = checked(this.#rule, this.bank, asked, answer, this.#clock.at())
    const { hold, transactionId } = answer.json
    if (answer.status >= 300) return
    if (asked.kind === 'PlaceHold') this.known.holds.push({ id: hold.id, account: asked.account })
    if (transactionId !== undefined) this.known.transactions.push(transactionId)
  }

  /** It must be answered as the command would be; that it did nothing shows in what comes after. */
  async #dryRun(asked: Asked): Promise<void> {
    const { path, sent } = requestOf(asked, null)
    const answer = await this.#api.send(`${path}?dryRun=true`, sent)
    assert.equal(answer.headers.get('etag'), null)
    checked(this.#rule, this.bank, asked, answer, this.#clock.at())
  }

  async #repeat(ref: number, same: boolean): Promise<void> {
    const before = this.#sent.at(-1 - (ref % this.#sent.length))
    if (before === undefined) return
    const other = { ...before.sent, method: 'POST', body: { owner: 'Eve', currency: 'JPY' } }
    const answer = same
      ? await this.#api.send(before.path, before.sent)
      : await this.#api.send('/accounts', other)
    if (!same) return assert.equal(answer.json.code, 'idempotency_key_reused')
    assert.equal(answer.headers.get('idempotent-replayed'), 'true')
    assert.deepEqual(sameOf(answer), sameOf(before.answer))
  }

  async #expire(): Promise<void> {
    const { pool, operations } = this.#api
    await expireHolds(pool, operations.execute, { now: this.#clock.now, newId: randomUUID })
    const at = this.#clock.at()
    for (const account of this.bank.values()) {
      for (const [hold, { status, expiresAt }] of account.holds) {
        if (status !== 'active' || expiresAt > at) continue
        const asked = { kind: 'ExpireHold', account: account.id, hold } as const
        this.bank = after(this.#rule, this.bank, asked, { at })
      }
    }
  }

  /** Holds the rows against the model, at the end of a run. */
  async compareRows(): Promise<void> {
    const { rows } = await this.#api.pool.query(
      `select id, version::int, ledger_balance as ledger, held, status, owner from ledger.accounts
       where id like $1 order by id`,
      [`${this.prefix}%`],
    )
    const expected = [...this.bank.values()].map((account) => {
      const { id, version, ledgerBalance, held, status, owner } = resourceOf(this.#rule, account)
      return { id, version, ledger: ledgerBalance, held, status, owner }
    })
    assert.deepEqual(
      rows,
      expected.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    )
  }
}

/** Everything that a repeat must be told again. */
export const sameOf = ({ status, headers, json }: Answered) => ({
  status,
  json,
  headers: ['etag', 'consistency-token', 'content-type'].map((name) => headers.get(name)),
})

const statuses: Record<string, number> = {
  account_not_found: 404,
  hold_not_found: 404,
  transaction_not_found: 404,
  version_conflict: 412,
}

const answeredWith200: readonly string[] = [
  'ReleaseHold',
  'ExpireHold',
  'FreezeAccount',
  'UnfreezeAccount',
  'ChangeOverdraftLimit',
  'UpdateAccountDetails',
  'CloseAccount',
  'ReopenAccount',
]

/** Throws unless the answer is what the model wants; the bank after the command. */
export function checked(
  rule: Rules,
  bank: Bank,
  asked: Asked,
  ...[answer, at]: [Answered, string]
): Bank {
  const codes = refusals(rule, bank, asked, at)
  const { status, json } = answer
  if (codes.length > 0) {
    assert.ok(codes.includes(json.code), `${codes.join()} expected, not ${status} ${json.code}`)
    assert.equal(status, statuses[json.code] ?? 409, json.code)
    if (json.code === 'insufficient_funds') checkShortage(rule, bank, asked, json)
    return bank
  }
  assert.equal(status, answeredWith200.includes(asked.kind) ? 200 : 201, json.code)
  const next = after(rule, bank, asked, madeBy(answer, at))
  const expected = touchedBy(bank, asked).map((id) => resourceOf(rule, next.get(id)!))
  const byId = (list: { id: string }[]) => list.toSorted((a, b) => (a.id < b.id ? -1 : 1))
  assert.deepEqual(byId(accountsIn(json)), byId(expected))
  checkHeaders(answer, expected)
  if (json.hold !== undefined) checkHold(next, json)
  if (asked.kind === 'Transfer') assert.equal(json.from.id, asked.from)
  if (asked.kind === 'ReverseTransaction' && expected.length === 2) {
    // Who was paid pays back.
    assert.equal(bank.get(json.from.id)!.lines.get(asked.transaction)!.amount > 0n, true)
  }
  return next
}

function checkShortage(
  rule: Rules,
  bank: Bank,
  asked: Asked,
  json: { available: string; requested: string },
): void {
  const available = touchedBy(bank, asked).map((id) => String(rule.available(bank.get(id)!)))
  assert.ok(available.includes(json.available), `${json.available} is not available`)
  if ('amount' in asked) assert.equal(json.requested, String(asked.amount))
}

function checkHeaders({ headers }: Answered, expected: { id: string; version: number }[]): void {
  const token = headers.get('consistency-token')
  // A dry run has neither.
  if (token === null) return
  const [only, other] = expected
  assert.deepEqual(decodeToken(token), new Map(expected.map(({ id, version }) => [id, version])))
  assert.equal(headers.get('etag'), other === undefined ? `"${only?.version}"` : null)
}

function madeBy({ json }: Pick<Answered, 'json'>, at: string): Made {
  const expiresAt = new Date(Date.parse(at) + holdSeconds * 1_000).toISOString()
  return { at, transaction: json.transactionId, hold: json.hold?.id, expiresAt }
}

function checkHold(bank: Bank, json: Answered['json']): void {
  const { id, ...told } = json.hold
  const { amount, expiresAt, status } = bank.get(json.account.id)!.holds.get(id) as Hold
  assert.deepEqual(told, { amount: String(amount), expiresAt, status })
}

/** The accounts of an accepted command's body, wherever they stand in it. */
export function accountsIn(json: Answered['json']): { id: string; version: number }[] {
  if (json.from !== undefined) return [json.from, json.to]
  return [json.account ?? json]
}
