import assert from 'node:assert'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { Acknowledgement } from './acknowledgement.ts'
import type { Lsn } from './lsn.ts'

test('a transaction is settled as a whole, once its last row is confirmed', () => {
  const acknowledgement = new Acknowledgement(100n)
  acknowledgement.begin()
  acknowledgement.row()
  acknowledgement.row()
  acknowledgement.commit(200n)
  acknowledgement.confirmed(1)
  expect(acknowledgement.settled).toBe(100n)
  acknowledgement.confirmed(1)
  expect(acknowledgement.settled).toBe(200n)
})

test('a keepalive counts only when nothing is in flight and no transaction is open', () => {
  const acknowledgement = new Acknowledgement(100n)
  acknowledgement.keepalive(150n)
  expect(acknowledgement.settled).toBe(150n)
  acknowledgement.begin()
  acknowledgement.keepalive(160n)
  acknowledgement.row()
  acknowledgement.commit(200n)
  acknowledgement.keepalive(300n)
  expect(acknowledgement.settled).toBe(150n)
  acknowledgement.confirmed(1)
  expect(acknowledgement.settled).toBe(200n)
  acknowledgement.keepalive(300n)
  expect(acknowledgement.settled).toBe(300n)
})

test('rows that are confirmed before their commit was received settle with it', () => {
  const acknowledgement = new Acknowledgement(0n)
  acknowledgement.begin()
  acknowledgement.row()
  acknowledgement.confirmed(1)
  expect(acknowledgement.settled).toBe(0n)
  acknowledgement.commit(50n)
  expect(acknowledgement.settled).toBe(50n)
})

test.each<[string, (acknowledgement: Acknowledgement) => void]>([
  ['a row outside a transaction', (one) => one.row()],
  ['a commit without a begin', (one) => one.commit(1n)],
  ['more rows are confirmed than were received', (one) => one.confirmed(1)],
])('%s is a fault', (message, does) => {
  expect(() => does(new Acknowledgement(0n))).toThrow(message)
})

// Any interleaving of what the server sends with what Kafka confirms. The truth is kept as a plain
// list: each row with the place up to which its transaction must be sent again while it is unconfirmed.

type Acknowledging = Pick<
  Acknowledgement,
  'settled' | 'begin' | 'row' | 'commit' | 'confirmed' | 'keepalive'
>

class Stream {
  readonly #of: Acknowledging
  /** Where the log was when each row's transaction began to be sent, in the order of the rows. */
  readonly #begunAt: Lsn[] = []
  #confirmed = 0
  #open = false
  #end: Lsn = 0n
  #begun: Lsn = 0n
  #committed: Lsn = 0n

  constructor(of: Acknowledging) {
    this.#of = of
  }

  step({ does, by }: Step): void {
    const before = this.#of.settled
    if (does === 'confirm') this.#confirm(by)
    else if (does === 'keepalive') this.#keepalive(by)
    else if (!this.#open) this.#begin()
    else if (does === 'row') this.#row()
    else this.#commit(by)
    assert(this.#of.settled >= before, 'what is settled went back')
    this.check()
  }

  /** The server sends a transaction again as long as it was told less than the end of its commit. */
  check(): void {
    const unconfirmed = this.#begunAt[this.#confirmed]
    assert(this.#of.settled <= (unconfirmed ?? this.#end), 'settled past a row in flight')
    if (this.#open) assert(this.#of.settled <= this.#begun, 'settled inside a transaction')
  }

  finish(): void {
    if (this.#open) this.#commit(1)
    this.#confirm(Infinity)
    assert(this.#of.settled >= this.#committed, 'all is confirmed and not settled')
    this.#keepalive(1)
    assert.equal(this.#of.settled, this.#end)
  }

  #begin(): void {
    this.#open = true
    this.#begun = this.#end
    this.#of.begin()
  }

  #row(): void {
    this.#begunAt.push(this.#begun)
    this.#of.row()
  }

  #commit(by: number): void {
    this.#open = false
    this.#end += BigInt(by)
    this.#committed = this.#end
    this.#of.commit(this.#end)
  }

  #confirm(by: number): void {
    const rows = Math.min(by, this.#begunAt.length - this.#confirmed)
    this.#confirmed += rows
    this.#of.confirmed(rows)
  }

  #keepalive(by: number): void {
    this.#end += BigInt(by)
    this.#of.keepalive(this.#end)
  }
}

const steps = fc.array(
  fc.record({
    does: fc.constantFrom('row', 'row', 'commit', 'confirm', 'keepalive'),
    by: fc.integer({ min: 1, max: 4 }),
  }),
  { maxLength: 80, size: 'max' },
)
type Step = typeof steps extends fc.Arbitrary<(infer One)[]> ? One : never

const survives = (make: () => Acknowledging) =>
  fc.property(steps, (script) => {
    const stream = new Stream(make())
    for (const step of script) stream.step(step)
    stream.finish()
  })

test('in any interleaving nothing unconfirmed is settled, and in the end all is', () => {
  fc.assert(
    survives(() => new Acknowledgement(0n)),
    { numRuns: 3_000 },
  )
})

class OnReceive extends Acknowledgement {
  #received: Lsn = 0n
  override get settled(): Lsn {
    return this.#received
  }
  override commit(end: Lsn): void {
    super.commit(end)
    this.#received = end
  }
  override keepalive(end: Lsn): void {
    this.#received = end
  }
}

class OnKeepalive extends Acknowledgement {
  #told: Lsn = 0n
  override get settled(): Lsn {
    return super.settled > this.#told ? super.settled : this.#told
  }
  override keepalive(end: Lsn): void {
    this.#told = end
  }
}

class Never extends Acknowledgement {
  override get settled(): Lsn {
    return 0n
  }
}

test.each([
  ['on receive', OnReceive],
  ['by any keepalive', OnKeepalive],
  ['never', Never],
])('the model is not blind: to acknowledge %s is caught', (_how, Faulty) => {
  expect(
    fc.check(
      survives(() => new Faulty(0n)),
      { numRuns: 1_000 },
    ).failed,
  ).toBe(true)
})
