import fc from 'fast-check'
import { Problem } from 'service/problem'
import { describe, expect, it } from 'vitest'
import { availableOf, evolve, type Account } from './account.ts'
import { changesOf, type Books } from './books.ts'
import { decide, type Command } from './commands.ts'
import { entriesOf } from './entries.ts'
import type { AccountEvent } from './events.ts'
import * as given from './test-commands.ts'

const amount = fc.bigInt({ min: 1n, max: 50n })
const command: fc.Arbitrary<Command> = fc.oneof(
  fc
    .record({ overdraftLimit: fc.bigInt({ min: 0n, max: 30n }), openingDeposit: fc.option(amount) })
    .map(given.open),
  amount.map((size) => given.deposit(size)),
  amount.map((size) => given.withdraw(size)),
  amount.map((size) => given.placeHold(size)),
  amount.map((size) => given.capture(size)),
  amount.map((size) => given.limit(size)),
  fc.constantFrom('all' as const, 'debits' as const, 'credits' as const).map(given.freeze),
  fc.constantFrom(given.close, given.reopen, given.release, given.expire, given.unfreeze),
)

describe('an account', () => {
  it('keeps every invariant over any sequence of commands', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
        let books: Books = given.noBooks
        const events: AccountEvent[] = []
        for (const [index, each] of commands.entries()) {
          // Ids are drawn anew for each hold; captures and releases are of the newest.
          const last = [...books.holds.keys()].at(-1) ?? ''
          const fresh = `${index}`.padStart(36, '0')
          const holdId = each.kind === 'PlaceHold' ? fresh : last
          const next: Command = 'holdId' in each ? { ...each, holdId } : each
          const decision = decide(books, next)
          if (decision instanceof Problem) continue
          events.push(...decision)
          const changes = changesOf(books, decision)
          books = given.merge(books, changes)
        }
        const account = books.accounts.get('acc-1')
        if (account === undefined) return
        expect(events.reduce<Account | null>(evolve, null)).toEqual(account)
        const versions = events.map((event) => event.payload.after.version)
        expect(versions).toEqual(events.map((_, index) => index + 1))
        expect(availableOf(account)).toBeGreaterThanOrEqual(0n)
        if (account.status === 'closed')
          expect([account.ledgerBalance, account.held]).toEqual([0n, 0n])
        const lines = events.flatMap(entriesOf)
        const ours = lines.filter((line) => line.accountId === 'acc-1')
        const sum = (list: typeof lines) => list.reduce((total, line) => total + line.amount, 0n)
        expect(sum(lines)).toBe(0n)
        expect(sum(ours)).toBe(account.ledgerBalance)
      }),
      { numRuns: 300 },
    )
  })
})
