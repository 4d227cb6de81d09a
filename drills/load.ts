import { randomUUID } from 'node:crypto'
import { waitUntil } from 'local-stack'
import pg from 'pg'
import { pause } from 'service/backoff'
import {
  type Answer,
  type Command,
  type KnownHold,
  type KnownMove,
  newBatch,
  newCapture,
  newCommand,
  newRelease,
  newReversal,
  newTransfer,
  send,
} from './commands.ts'
import type { HistoryEntry, Outcome } from './history.ts'
import { type Random, zipf } from './random.ts'
import { type Transfer, transfer } from './transfers.ts'

export type LoadOptions = {
  commandUrl: string
  /** Of the role sluice_command, for transfers that no command makes. */
  writeUrl: string
  random: Random
  commandsPerSecond: number
  accounts?: number
}

/** A transfer whose transaction is open: it has written, and commits when it is told to. */
export type HeldTransfer = AsyncDisposable & {
  /** Of the server's process. */
  pid: string
  commit: () => Promise<void>
}

const opening = 100_000n
/** Half a second's worth: beyond it this process would be busier than what it puts load on. */
const inFlightLimit = 100
/** Of what answers told of, and a later command may be about. */
const rememberedLimit = 500

/**
 * An open loop: commands leave when they are due, whether or not those before them were answered, as
 * callers who know nothing of each other do. What each was told is kept.
 */
export class Load {
  readonly history: HistoryEntry[] = []
  /** Accounts that had an event too large. */
  readonly poisoned = new Set<string>()
  /** What each command by HTTP took, whatever it was told. */
  readonly waits: { sentMs: number; tookMs: number }[] = []
  /** Due while too many were unanswered, and never sent. */
  skipped = 0
  readonly #options: LoadOptions
  readonly #random: Random
  readonly #accounts: string[]
  readonly #hot: () => number
  readonly #commands = new Map<string, Command>()
  readonly #holds: KnownHold[] = []
  readonly #moves: KnownMove[] = []
  readonly #frozen: string[] = []
  readonly #pool: pg.Pool
  readonly #stop = new AbortController()
  readonly #inFlight = new Set<Promise<unknown>>()
  #fault: Error | undefined
  #opened = 0
  #probes = 0
  #held = 0
  #running: Promise<void> = Promise.resolve()

  constructor(options: LoadOptions) {
    this.#options = options
    this.#random = options.random
    const count = options.accounts ?? 200
    this.#accounts = Array.from({ length: count }, (_, n) => `drill-${n}`)
    this.#hot = zipf(count, options.random.fork())
    const settings = { connectionString: options.writeUrl, max: 6, connectionTimeoutMillis: 5_000 }
    this.#pool = new pg.Pool({ ...settings, options: '-c synchronous_commit=on' })
    this.#pool.on('error', () => {}) // The statement that was running reports it.
    this.#pool.on('connect', (client) => client.on('error', () => {}))
  }

  /** Opens the accounts, then begins; resolves once they are open. */
  async start(): Promise<void> {
    for (let at = 0; at < this.#accounts.length; at += 50) {
      const some = this.#accounts.slice(at, at + 50)
      await Promise.all(some.map((id) => this.#send(newCommand('open', id, opening))))
    }
    this.#running = this.#run()
  }

  /**
   * Sends no more, waits for what is on its way, resolves every unknown by its key, and waits until the
   * timer has ended what expires. Throws what made a command impossible.
   */
  async finish(): Promise<void> {
    this.#stop.abort()
    await this.#running
    await Promise.all(this.#inFlight)
    if (this.#fault !== undefined) throw this.#fault
    for (const entry of this.history) {
      if (entry.final === 'unknown') await this.#resolve(entry)
    }
    await waitUntil(() => this.#noneExpires(), { what: 'every short hold to expire' })
    await this.#pool.end()
  }

  /** Opens an account that nobody touches again; sent again with its key until it is answered. */
  async probe(limitMs: number): Promise<string> {
    this.#probes += 1
    const command = newCommand('open', `probe-${this.#probes}`, 0n)
    const sentMs = Date.now()
    let answer = await send(this.#options.commandUrl, command, 1_000)
    const { outcome: first } = answer
    await waitUntil(
      async () => {
        if (answer.outcome === 'ok') return true
        answer = await send(this.#options.commandUrl, command, 1_000)
        return answer.outcome === 'ok'
      },
      { what: 'a command to be accepted', deadlineMs: limitMs },
    ).finally(() => {
      const { outcome: final } = answer
      const { key, kind, account, amount } = command
      const { status, version } = answer
      this.history.push({ key, kind, account, amount, sentMs, first, final, status, version })
      this.#commands.set(key, command)
    })
    return command.account
  }

  /**
   * Transfers whose events are larger than Kafka takes, between accounts that others use too; gives those
   * accounts.
   */
  async poison(transfers: number): Promise<string[]> {
    const accounts: string[] = []
    while (accounts.length < 2 * transfers) {
      const free = this.#accounts.filter((id) => !accounts.includes(id))
      const [from, to] = [this.#random.pick(free), this.#random.pick(free)]
      if (from === to) continue
      for (const id of [from, to]) this.poisoned.add(id)
      const outcome = await this.#pay({ from, to, amount: 1n, reference: 'x'.repeat(1_100_000) })
      if (outcome === 'ok') accounts.push(from, to)
    }
    return accounts
  }

  /** A transfer between two accounts of its own, which nobody else waits for. */
  async hold(): Promise<HeldTransfer> {
    this.#held += 1
    const [from = '', to = ''] = ['payer', 'payee'].map((who) => `${who}-${this.#held}`)
    await Promise.all([from, to].map((id) => this.#send(newCommand('open', id, opening))))
    const written = Promise.withResolvers<string>()
    const told = Promise.withResolvers<void>()
    const paid = this.#pay({
      from,
      to,
      amount: 1n,
      async beforeCommit(client) {
        const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
        written.resolve(String(rows[0]?.pid))
        await told.promise
      },
    })
    this.#track(paid)
    paid.then(() => written.reject(new Error('the transfer was refused')), written.reject)
    const commit = async () => {
      told.resolve()
      await paid
    }
    return { pid: await written.promise, commit, [Symbol.asyncDispose]: commit }
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    const startedMs = performance.now()
    for (let due = 0; !signal.aborted;) {
      const wanted = ((performance.now() - startedMs) / 1_000) * this.#options.commandsPerSecond
      for (; due < wanted; due += 1) {
        if (this.#inFlight.size >= inFlightLimit) this.skipped += 1
        else this.#track(this.#one())
      }
      await pause(5, signal)
    }
  }

  #track(work: Promise<unknown>): void {
    const done: Promise<unknown> = work
      .catch((error: Error) => void (this.#fault ??= error))
      .finally(() => this.#inFlight.delete(done))
    this.#inFlight.add(done)
  }

  #one(): Promise<void> {
    const random = this.#random
    const account = this.#accounts[this.#hot()]!
    const chance = random.next()
    const amount = BigInt(random.between(1, 4_000))
    if (chance < 0.2) return this.#send(newTransfer(account, this.#other(account), amount))
    if (chance < 0.46) return this.#send(newCommand('deposit', account, amount))
    if (chance < 0.66) {
      // Now and then more than there is.
      const most = random.next() < 0.05 ? 100_000_000n : amount
      return this.#send(newCommand('withdraw', account, most))
    }
    if (chance < 0.74) return this.#send(newCommand('hold', account, amount))
    if (chance < 0.8) return this.#send(this.#holdEnd() ?? newCommand('hold', account, amount))
    if (chance < 0.84) return this.#send(this.#reversal() ?? newCommand('deposit', account, amount))
    if (chance < 0.87) return this.#send(newBatch(account, this.#other(account), amount))
    if (chance < 0.89) return this.#send(newCommand('details', account, amount))
    if (chance < 0.91) return this.#send(newCommand('limit', account, amount))
    if (chance < 0.92) return this.#send(this.#freezing())
    // With money on it this is refused; of those opened empty some are closed.
    if (chance < 0.95) return this.#send(newCommand('close', this.#closable(account), 0n))
    if (chance < 0.96) return this.#send(newCommand('reopen', this.#closable(account), 0n))
    this.#opened += 1
    const empty = random.next() < 0.5
    return this.#send(newCommand('open', `extra-${this.#opened}`, empty ? 0n : 1_000n))
  }

  #other(account: string): string {
    return this.#random.pick(this.#accounts.filter((id) => id !== account))
  }

  /** Of a hold captured in part the rest is free again; some are asked of twice, or have expired. */
  #holdEnd(): Command | undefined {
    const hold = this.#remembered(this.#holds)
    if (hold === undefined) return undefined
    if (this.#random.next() < 0.4) return newRelease(hold)
    return newCapture(hold, this.#random.next() < 0.5 ? hold.amount : (hold.amount + 1n) / 2n)
  }

  #reversal(): Command | undefined {
    const moved = this.#remembered(this.#moves)
    return moved === undefined ? undefined : newReversal(moved)
  }

  /** Mostly it stays, so that another command is about it too, at the same time or later. */
  #remembered<T>(known: T[]): T | undefined {
    if (known.length === 0) return undefined
    const at = this.#random.between(0, known.length - 1)
    return this.#random.next() < 0.2 ? known[at] : known.splice(at, 1)[0]
  }

  /** Few at a time, so that most of the load is not refused for it. */
  #freezing(): Command {
    const frozen = this.#frozen.length < 3 ? undefined : this.#frozen.shift()
    if (frozen !== undefined) return newCommand('unfreeze', frozen, 0n)
    return newCommand('freeze', this.#random.pick(this.#accounts), 0n)
  }

  #closable(account: string): string {
    if (this.#opened === 0 || this.#random.next() < 0.5) return account
    return `extra-${this.#random.between(1, this.#opened)}`
  }

  async #send(command: Command): Promise<void> {
    this.#commands.set(command.key, command)
    const sentMs = Date.now()
    const startedMs = performance.now()
    const { said, ...answer } = await send(this.#options.commandUrl, command)
    this.waits.push({ sentMs, tookMs: performance.now() - startedMs })
    this.#keep(command, { sentMs, ...answer })
    if (said !== undefined) this.#learn(command, said)
  }

  #learn({ kind, account, to, amount }: Command, said: NonNullable<Answer['said']>): void {
    const remember = <T>(known: T[], one: T) => {
      if (known.length < rememberedLimit) known.push(one)
    }
    const { hold, transactionId } = said
    if (kind === 'freeze') this.#frozen.push(account)
    else if (kind === 'hold' && hold !== undefined) {
      remember(this.#holds, { id: hold.id, account, amount })
    } else if (transactionId !== undefined && kind !== 'reverse') {
      remember(this.#moves, { transactionId, account, ...(to === undefined ? {} : { to }), amount })
    }
  }

  async #pay(order: Omit<Transfer, 'key'>): Promise<Outcome> {
    const { from, to, amount } = order
    const key = randomUUID()
    const sentMs = Date.now()
    const outcome = await transfer(this.#pool, { key, ...order })
    const one = { kind: 'transfer' as const, account: from, to, amount, key }
    this.#keep(one, { sentMs, outcome, status: null, version: null })
    return outcome
  }

  #keep(
    sent: Pick<HistoryEntry, 'key' | 'kind' | 'account' | 'to' | 'amount'>,
    said: { sentMs: number; outcome: Outcome; status: number | null; version: number | null },
  ): void {
    const { outcome, ...rest } = said
    const { key, kind, account, to, amount } = sent
    const whole = { key, kind, account, ...(to === undefined ? {} : { to }), amount }
    this.history.push({ ...whole, first: outcome, final: outcome, ...rest })
  }

  /** As a caller does who got no answer: the same again, with the same key. */
  async #resolve(entry: HistoryEntry): Promise<void> {
    const command = this.#commands.get(entry.key)
    await waitUntil(
      async () => {
        if (command === undefined) entry.final = await this.#lookUp(entry.key)
        else {
          const { outcome, status, version } = await send(this.#options.commandUrl, command)
          Object.assign(entry, { final: outcome, status, version })
        }
        return entry.final !== 'unknown'
      },
      { what: 'an unknown outcome to be resolved', deadlineMs: 30_000 },
    ).catch(() => {}) // It stays unknown, and the checker says so.
  }

  /** Only of short holds the time is near. */
  async #noneExpires(): Promise<boolean> {
    const { rows } = await this.#pool.query(
      `select from ledger.holds where status = 'active' and expires_at < now() + '1 hour' limit 1`,
    )
    return rows.length === 0
  }

  /** What no command made cannot be sent again: once nothing runs any more, its rows tell. */
  async #lookUp(key: string): Promise<Outcome> {
    const { rows } = await this.#pool.query(
      'select from ledger.account_events where correlationid = $1 limit 1',
      [key],
    )
    return rows.length > 0 ? 'ok' : 'refused'
  }
}
