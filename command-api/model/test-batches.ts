import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import type { CommandRequest, Unit } from '../batch.ts'
import type { Asked } from './test-bank.ts'
import { brokenIn, readLedger } from './test-ledger.ts'
import {
  commandOf,
  inOneBatch,
  oneByOne,
  rowsOf,
  transactionsOf,
  type Outcome,
  type Side,
} from './test-side.ts'
import { askedBy, kinds, stepsOf, type Known } from './test-steps.ts'
import { accountsIn } from './test-world.ts'

// Random batches of commands, with all that may be among them.

const rarely = fc.oneof(
  { weight: 9, arbitrary: fc.constant(false) },
  { weight: 1, arbitrary: fc.constant(true) },
)

const item = fc.record({
  step: stepsOf(kinds),
  /** All or nothing with the one before it. */
  joined: rarely,
  dryRun: rarely,
  /** The request of an earlier one, or another request under its key. */
  again: fc.oneof(
    { weight: 9, arbitrary: fc.constant('no' as const) },
    { weight: 1, arbitrary: fc.constantFrom('same' as const, 'other' as const) },
  ),
  /** Fails by a bug: while it is decided, or when it is written. */
  culprit: fc.oneof(
    { weight: 30, arbitrary: fc.constant('no' as const) },
    { weight: 1, arbitrary: fc.constantFrom('decided' as const, 'written' as const) },
  ),
})
type Item = typeof item extends fc.Arbitrary<infer T> ? T : never

/** Each list is a batch. */
const batches = fc.array(fc.array(item, { minLength: 1, maxLength: 24, size: 'max' }), {
  minLength: 1,
  maxLength: 5,
})

/** How the side under test executes a batch. */
export type Way = (side: Side, units: readonly Unit[]) => Promise<Outcome[]>

/** One run: its accounts on both sides, and what is known of them so far. */
class Run {
  readonly prefix = `${randomUUID().slice(0, 8)}-`
  readonly #versions = new Map<string, number>()
  readonly #known: Known & { holds: { id: string; account: string }[]; transactions: string[] }
  readonly #sent: { asked: Asked; key: string }[] = []
  #commands = 0

  constructor() {
    this.#known = {
      accounts: [0, 1, 2, 3].map((slot) => `${this.prefix}${slot}`),
      holds: [],
      transactions: [],
      versionOf: (id) => this.#versions.get(id) ?? 0,
    }
  }

  openings(): Unit[] {
    const opening = { kind: 'OpenAccount', owner: 'Ada', currency: 'EUR', type: 'current' } as const
    const fields = { overdraftLimit: 20n, openingDeposit: 100n }
    return this.#known.accounts
      .slice(0, 3)
      .map((account) => [this.#request({ ...opening, ...fields, account })])
  }

  unitsOf(items: readonly Item[]): Unit[] {
    const units: CommandRequest[][] = []
    for (const each of items) {
      const last = units.at(-1)
      const before = this.#sent.at(-1 - (each.step.ref % this.#sent.length))
      const isRepeat = each.again !== 'no' && before !== undefined
      const request = isRepeat ? this.#repeat(before, each.again === 'other') : this.#first(each)
      const keys = last?.map(({ key }) => key) ?? []
      if (each.joined && last !== undefined && !keys.includes(request.key)) {
        last.push({ ...request, dryRun: last[0]!.dryRun })
      } else units.push([{ ...request, dryRun: each.dryRun }])
    }
    return units
  }

  #first({ step, culprit }: Item): CommandRequest {
    const asked = askedBy(step, this.#known)
    const request = this.#request(asked)
    if (culprit === 'decided') Object.assign(request.command, { kind: 'Nonsense' })
    if (culprit === 'written') Object.assign(request.command, { at: 'no time at all' })
    return request
  }

  #request(asked: Asked): CommandRequest {
    const key = `${this.prefix}${(this.#commands += 1)}`
    this.#sent.push({ asked, key })
    return commandOf(asked, { key, n: this.#commands })
  }

  #repeat({ asked, key }: { asked: Asked; key: string }, isOther: boolean): CommandRequest {
    const fingerprint = isOther ? 'another request' : ''
    return commandOf(asked, { key, n: (this.#commands += 1), fingerprint })
  }

  learn(units: readonly Unit[], outcomes: readonly Outcome[]): void {
    for (const [index, { command, dryRun }] of units.flat().entries()) {
      const answer = outcomes.flatMap((each, n) =>
        each === 'fault' ? units[n]!.map(() => undefined) : [...each],
      )[index]
      if (answer === undefined || answer.status >= 300 || dryRun || answer.replayed) continue
      const body = JSON.parse(answer.body)
      if (command.kind === 'PlaceHold') {
        this.#known.holds.push({ id: body.hold.id, account: body.account.id })
      }
      if (body.transactionId !== undefined) this.#known.transactions.push(body.transactionId)
      for (const { id, version } of accountsIn(body)) this.#versions.set(id, version)
    }
  }
}

/** The same commands one at a time on one side, and another way on the other. */
export const alikeOn = ([alone, together]: readonly [Side, Side], way: Way = inOneBatch) =>
  fc.asyncProperty(batches, async (given) => {
    const run = new Run()
    const compare = async (units: readonly Unit[], ofTogether: Way) => {
      const expected = await oneByOne(alone, units)
      assert.deepEqual(await ofTogether(together, units), expected)
      run.learn(units, expected)
    }
    await compare(run.openings(), inOneBatch)
    for (const items of given) await compare(run.unitsOf(items), way)
    assert.deepEqual(await rowsOf(together, run.prefix), await rowsOf(alone, run.prefix))
    assert.deepEqual(brokenIn(await readLedger(together.admin, run.prefix)), [])
    // Batches they were indeed, but those that were run again because of a culprit.
    if (given.flat().some(({ culprit }) => culprit === 'written')) return
    assert.ok((await transactionsOf(together, run.prefix)) <= given.length + 1)
  })
