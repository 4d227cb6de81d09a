import { randomUUID } from 'node:crypto'
import type { CommandKind, HistoryEntry } from './history.ts'
import type { Random } from './random.ts'
import { type Expected, judges, type ReadBody } from './token-judges.ts'

// Writes, and reads at once what was written, with the write's token: as fast as it can, at whichever
// replica. A writer has two accounts and a currency to itself, so it knows what every answer has to
// show, figures over all accounts included. An answer is judged by its body: one that shows less than
// the write must say so (`Consistency: stale`), or be a 503.

type Older = { what: string; url: string; wanted: Expected; status: number; body: unknown }

type TokenReadsOptions = {
  commandUrl: string
  /** Of query-api; each read goes to one of them. */
  queryUrls: readonly string[]
  random: Random
  /** Others than EUR, which the load of the drills has. */
  currencies?: readonly string[]
}

/** What became of reads with a token. */
type Tally = {
  fresh: number
  stale: number
  /** 503: strict and late, or the read database away. */
  refused: number
  /** At neither replica. */
  unreachable: number
}

const ownCurrencies = ['USD', 'GBP', 'CHF', 'SEK', 'NOK', 'DKK', 'PLN', 'CAD']
const readLimitMs = 45_000

export class TokenReads {
  readonly older: Older[] = []
  /** What it wrote, as the checker wants to know it. */
  readonly history: HistoryEntry[] = []
  /** What had neither `version` and `asOf` nor items that all have them. */
  readonly bare = new Set<string>()
  /** By what was read. */
  readonly tallies = new Map<string, Tally>()
  /** Fresh answers by replica. */
  readonly freshAt = new Map<string, number>()
  readonly #options: TokenReadsOptions
  readonly #stop = new AbortController()
  #running: Promise<unknown> = Promise.resolve()

  constructor(options: TokenReadsOptions) {
    this.#options = options
  }

  start(): void {
    const { currencies = ownCurrencies } = this.#options
    this.#running = Promise.all(currencies.map((currency) => this.#write(currency)))
    this.#running.catch(() => {}) // Thrown by `finish`.
  }

  /** Resolves when every writer has read what it wrote last. Throws what made a write impossible. */
  async finish(): Promise<void> {
    this.#stop.abort()
    await this.#running
  }

  async #write(currency: string): Promise<void> {
    const name = `${currency.toLowerCase()}-${randomUUID().slice(0, 8)}`
    const [one, other] = await Promise.all(
      ['a', 'b'].map((each) => this.#open(`${name}-${each}`, currency)),
    )
    const state: Writer = { currency, accounts: [one!, other!], steps: 0 }
    while (!this.#stop.signal.aborted) {
      const wanted = await this.#step(state)
      await Promise.all(Object.keys(judges).map((what) => this.#read(what, wanted)))
    }
  }

  async #open(id: string, currency: string): Promise<Account> {
    const body = { id, owner: id, currency, openingDeposit: '1000000' }
    const { said } = await this.#send({ kind: 'open', path: '/accounts', account: id, body })
    return accountOf(said as AccountSaid)
  }

  /** A command on both accounts or on one of them; what it makes true. */
  async #step(state: Writer): Promise<Expected> {
    state.steps += 1
    const { accounts, steps, currency } = state
    const [from, to] = steps % 2 === 0 ? accounts : (accounts.toReversed() as Writer['accounts'])
    const amount = String(this.#options.random.between(1, 900))
    const reference = `r${randomUUID().replaceAll('-', '')}`
    const body = { amount, currency, reference }
    const all = { currency, reference }
    const account = from.id
    if (steps % 3 === 0) {
      const path = `/accounts/${account}/holds`
      const { said, token } = await this.#send({ kind: 'hold', path, account, body })
      const { hold, account: after } = said as { hold: { id: string }; account: AccountSaid }
      Object.assign(from, accountOf(after))
      return { ...all, token, account: { ...from }, holdId: hold.id }
    }
    if (steps % 3 === 1) {
      const path = `/accounts/${account}/deposits`
      const { said, token } = await this.#send({ kind: 'deposit', path, account, body })
      const { account: after, transactionId } = said as Deposited
      Object.assign(from, accountOf(after))
      return { ...all, token, account: { ...from }, transactionId }
    }
    const { said, token } = await this.#send({
      kind: 'transfer',
      path: '/transfers',
      account,
      to: to.id,
      body: { from: account, to: to.id, ...body },
    })
    const moved = said as Moved
    Object.assign(from, accountOf(moved.from))
    Object.assign(to, accountOf(moved.to))
    const { transactionId, transferId } = moved
    const both = accounts.map((each) => ({ ...each }))
    return { ...all, token, account: { ...from }, transactionId, transferId, both }
  }

  /** Sent again with its key until it is answered: a process of the command side may be away. */
  async #send(write: Write): Promise<{ said: unknown; token: string }> {
    const { path, body, ...sent } = write
    const key = randomUUID()
    const headers = {
      'Content-Type': 'application/json',
      'Idempotency-Key': key,
      'Correlation-Id': key,
    }
    const sentMs = Date.now()
    for (let tries = 0; ; tries += 1) {
      const response = await fetch(`${this.#options.commandUrl}${path}`, {
        method: 'POST',
        headers,
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(10_000),
      })
      const said: unknown = await response.json()
      const { status } = response
      if (response.ok) {
        const amount = BigInt(body.amount ?? body.openingDeposit ?? 0)
        const told = { sentMs, first: 'ok', final: 'ok', status, version: null } as const
        this.history.push({ key, ...sent, amount, ...told })
        return { said, token: response.headers.get('Consistency-Token') ?? '' }
      }
      if (status !== 503 || tries > 20) {
        throw new Error(`${path} was answered ${status}: ${JSON.stringify(said)}`)
      }
    }
  }

  async #read(what: string, wanted: Expected): Promise<void> {
    const judge = judges[what]!
    const path = judge.path(wanted)
    if (path === undefined) return
    const { random, queryUrls } = this.#options
    const urls = random.shuffled(queryUrls)
    const strict = random.next() < 0.2
    const wait = random.pick([undefined, '0', '0', '1', '10'])
    const headers = {
      'Consistency-Token': wanted.token,
      ...(strict ? { 'Consistency-Mode': 'strict' } : {}),
      ...(wait === undefined ? {} : { Prefer: `wait=${wait}` }),
    }
    const tally = this.tallies.get(what) ?? { fresh: 0, stale: 0, refused: 0, unreachable: 0 }
    this.tallies.set(what, tally)
    const answer = await askOneOf(urls, path, headers)
    if (answer?.status === 200 && !isDated(answer.body)) this.bare.add(what)
    if (answer === undefined) tally.unreachable += 1
    else if (answer.status === 503) tally.refused += 1
    else if (!strict && answer.consistency === 'stale') tally.stale += 1
    else if (answer.status === 200 && judge.shows(answer.body, wanted)) {
      tally.fresh += 1
      this.freshAt.set(answer.url, (this.freshAt.get(answer.url) ?? 0) + 1)
    } else {
      const { url, status, body } = answer
      this.older.push({ what, url, wanted, status, body })
    }
  }
}

type Account = Expected['account']
type Writer = { currency: string; accounts: [Account, Account]; steps: number }
type AccountSaid = { id: string; version: number; ledgerBalance: string; held: string }
type Write = Pick<HistoryEntry, 'account' | 'to'> & {
  kind: Extract<CommandKind, 'open' | 'deposit' | 'hold' | 'transfer'>
  path: string
  body: { amount?: string; openingDeposit?: string; [field: string]: unknown }
}
type Deposited = { account: AccountSaid; transactionId: string }
type Moved = { transferId: string; transactionId: string; from: AccountSaid; to: AccountSaid }

const accountOf = ({ id, version, ledgerBalance, held }: AccountSaid): Account => ({
  id,
  version,
  ledgerBalance: BigInt(ledgerBalance),
  held: BigInt(held),
})

const isDated = ({ version, asOf, items }: ReadBody): boolean =>
  version === undefined || asOf === undefined
    ? items !== undefined && items.every((item) => isDated(item))
    : true

type Read = { url: string; status: number; consistency: string | null; body: ReadBody }

/** A process that is away, or goes while it answers, leaves the question to the next one. */
async function askOneOf(
  urls: readonly string[],
  path: string,
  headers: Record<string, string>,
): Promise<Read | undefined> {
  for (const url of urls) {
    try {
      const signal = AbortSignal.timeout(readLimitMs)
      const response = await fetch(`${url}${path}`, { headers, signal })
      const body = (await response.json()) as ReadBody
      const consistency = response.headers.get('Consistency')
      return { url, status: response.status, consistency, body }
    } catch {
      // As a load balancer does.
    }
  }
  return undefined
}
