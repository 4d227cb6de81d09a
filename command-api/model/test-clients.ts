import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import type { TestApi } from '../test-api.ts'
import type { Asked } from './test-bank.ts'
import type { Told } from './test-history.ts'
import { askedBy, requestOf, type Known, type Step } from './test-steps.ts'
import { accountsIn, sameOf, type Answered, type Clock } from './test-world.ts'

export type ClientStep = { step: Step; twice: boolean }

/** What a client does about an answer that leaves the outcome open: it should keep its key. */
export type Resending = 'same key' | 'new key'

/** Many callers at once of the servers of one service, on accounts of one run. */
export class Clients {
  readonly prefix = `${randomUUID().slice(0, 8)}-`
  readonly history: Told[] = []
  readonly known: Known & { holds: { id: string; account: string }[]; transactions: string[] }
  /** Answers that left the outcome open. */
  unknown = 0
  readonly #apis: readonly Pick<TestApi, 'send'>[]
  readonly #clock: Clock
  readonly #resending: Resending
  readonly #versions = new Map<string, number>()
  readonly #answered: { asked: Asked; key: string; answer: Answered }[] = []

  constructor(
    { apis, clock }: { apis: readonly Pick<TestApi, 'send'>[]; clock: Clock },
    resending: Resending = 'same key',
  ) {
    this.#apis = apis
    this.#clock = clock
    this.#resending = resending
    this.known = {
      accounts: [0, 1, 2, 3].map((slot) => `${this.prefix}${slot}`),
      holds: [],
      transactions: [],
      versionOf: (id) => this.#versions.get(id) ?? 0,
    }
  }

  async begin(): Promise<void> {
    const opening = { kind: 'OpenAccount', owner: 'Ada', currency: 'EUR', type: 'current' } as const
    const openings = this.known.accounts
      .slice(0, 3)
      .map((account) =>
        this.ask({ ...opening, account, overdraftLimit: 20n, openingDeposit: 100n }, 0, false),
      )
    await Promise.all(openings)
  }

  /** Each list is one client's, who waits for each answer before the next command. */
  async run(lists: readonly (readonly ClientStep[])[]): Promise<void> {
    const clients = lists.map(async (steps, client) => {
      for (const { step, twice } of steps) {
        await this.ask(askedBy(step, this.known), client, twice)
      }
    })
    await Promise.all(clients)
  }

  /** Asks until the outcome is known. */
  async ask(asked: Asked, client: number, twice: boolean): Promise<Told> {
    const startMs = performance.now()
    const at = this.#clock.at()
    const key = randomUUID()
    const both = [client, ...(twice ? [client + 1] : [])].map((each) =>
      this.#untilKnown(asked, key, each),
    )
    const answer = await Promise.race(both)
    const told = { asked, answer, startMs, endMs: performance.now(), at }
    this.history.push(told)
    this.#learn(told)
    const [first, second] = await Promise.all(both)
    if (second !== undefined) assert.deepEqual(sameOf(second), sameOf(first as Answered))
    return told
  }

  async #untilKnown(asked: Asked, key: string, client: number): Promise<Answered> {
    const api = this.#apis[client % this.#apis.length] as TestApi
    for (let used = key; ;) {
      const { path, sent } = requestOf(asked, used)
      const answer = await api.send(path, sent)
      const isOpen = answer.status === 503 || answer.json.code === 'idempotency_in_progress'
      if (!isOpen) {
        this.#answered.push({ asked, key: used, answer })
        return answer
      }
      assert.ok(answer.headers.has('retry-after'), 'an open outcome says when to come again')
      this.unknown += 1
      if (this.#resending === 'new key') used = randomUUID()
      await wait(20)
    }
  }

  /** Sends every command once more under its key: nobody may be told anything else. */
  async repeatAll(): Promise<void> {
    // The last, whose patience no test shortens.
    const api = this.#apis.at(-1) as TestApi
    for (const { asked, key, answer } of this.#answered) {
      const { path, sent } = requestOf(asked, key)
      const again = await api.send(path, sent)
      assert.deepEqual(sameOf(again), sameOf(answer))
      assert.equal(again.headers.get('idempotent-replayed'), 'true')
    }
  }

  #learn({ asked, answer }: Told): void {
    if (answer.status >= 300) return
    const { hold, transactionId } = answer.json
    if (asked.kind === 'PlaceHold') this.known.holds.push({ id: hold.id, account: asked.account })
    if (transactionId !== undefined) this.known.transactions.push(transactionId)
    for (const { id, version } of accountsIn(answer.json)) {
      this.#versions.set(id, Math.max(version, this.known.versionOf(id)))
    }
  }
}
