import fc from 'fast-check'
import { Problem } from 'service/problem'
import { describe, expect, it } from 'vitest'
import {
  availableOf,
  decide,
  entriesOf,
  evolve,
  type Account,
  type AccountCommand,
} from './account.ts'
import type { AccountEvent } from './events.ts'
import { balanceLimitMinor } from './money.ts'

const at = '2026-01-02T03:04:05.678Z'
const transactionId = '0b9f7a52-3c58-4ce4-9d2f-3d3cbbf7a001'
const named = { accountId: 'acc-1', transactionId, at }

const open = (overrides: Partial<Extract<AccountCommand, { kind: 'OpenAccount' }>> = {}) =>
  ({
    ...named,
    kind: 'OpenAccount',
    owner: 'Ada',
    currency: 'EUR',
    type: 'current',
    overdraftLimit: 0n,
    openingDeposit: null,
    ...overrides,
  }) satisfies AccountCommand

const move = (kind: 'Deposit' | 'Withdraw', amount: bigint, currency = 'EUR') =>
  ({ ...named, kind, amount, currency, reference: null, effectiveAt: at }) satisfies AccountCommand

const close: AccountCommand = { ...named, kind: 'CloseAccount' }

/** Runs commands one after another; the last one's decision, and the account as it stood before. */
function after(...commands: AccountCommand[]) {
  let account: Account | null = null
  let decision: readonly AccountEvent[] | Problem = []
  for (const command of commands) {
    account = decision instanceof Problem ? account : decision.reduce(evolve, account)
    decision = decide(account, command)
  }
  return { account, decision }
}

const codeOf = (decision: readonly AccountEvent[] | Problem) =>
  decision instanceof Problem ? decision.code : decision.map((event) => event.type)

describe('the account', () => {
  it.each([
    ['opens', [open()], ['AccountOpened.v1']],
    ['opens with money', [open({ openingDeposit: 5n })], ['AccountOpened.v1', 'FundsDeposited.v1']],
    ['opens once', [open(), open()], 'account_id_taken'],
    ['opens in listed currencies', [open({ currency: 'QQQ' })], 'unsupported_currency'],
    ['is opened before anything', [move('Deposit', 1n)], 'account_not_found'],
    ['takes a deposit', [open(), move('Deposit', 1n)], ['FundsDeposited.v1']],
    ['keeps one currency', [open(), move('Deposit', 1n, 'USD')], 'currency_mismatch'],
    [
      'gives what it has',
      [open({ openingDeposit: 5n }), move('Withdraw', 5n)],
      ['FundsWithdrawn.v1'],
    ],
    ['gives no more', [open({ openingDeposit: 5n }), move('Withdraw', 6n)], 'insufficient_funds'],
    [
      'lends its overdraft',
      [open({ overdraftLimit: 9n }), move('Withdraw', 9n)],
      ['FundsWithdrawn.v1'],
    ],
    ['lends no more', [open({ overdraftLimit: 9n }), move('Withdraw', 10n)], 'insufficient_funds'],
    ['closes empty', [open(), close], ['AccountClosed.v1']],
    ['closes with no money on it', [open({ openingDeposit: 1n }), close], 'balance_not_zero'],
    ['stays closed', [open(), close, move('Deposit', 1n)], 'account_closed'],
    ['closes once', [open(), close, close], 'account_closed'],
    [
      'holds at most 18 digits',
      [open({ openingDeposit: balanceLimitMinor }), move('Deposit', 1n)],
      'balance_limit_exceeded',
    ],
  ])('%s', (_, commands, expected) => {
    expect(codeOf(after(...commands).decision)).toEqual(expected)
  })

  it('says what is available and what was asked when it refuses a debit', () => {
    const { decision } = after(
      open({ openingDeposit: 5n, overdraftLimit: 2n }),
      move('Withdraw', 8n),
    )
    expect((decision as Problem).body('trace')).toMatchObject({ available: '7', requested: '8' })
  })

  it('takes the exponent of its currency at opening', () => {
    for (const [currency, exponent] of [
      ['JPY', 0],
      ['EUR', 2],
      ['KWD', 3],
    ] as const) {
      const { decision } = after(open({ currency }))
      expect((decision as AccountEvent[])[0]?.payload).toMatchObject({ exponent })
    }
  })

  it('refuses an event that disagrees with the state it claims to leave', () => {
    const [opened, deposited] = after(open({ openingDeposit: 5n })).decision as AccountEvent[]
    const account = evolve(null, opened as AccountEvent)
    const lying = structuredClone(deposited as AccountEvent)
    lying.payload.after.ledgerBalance = '6'
    expect(() => evolve(account, lying)).toThrow('balance after the event')
    expect(() => evolve(null, deposited as AccountEvent)).toThrow('before it is opened')
  })

  it('keeps every invariant over any sequence of commands', () => {
    const amount = fc.bigInt({ min: 1n, max: 50n })
    const command: fc.Arbitrary<AccountCommand> = fc.oneof(
      fc
        .record({
          overdraftLimit: fc.bigInt({ min: 0n, max: 30n }),
          openingDeposit: fc.option(amount),
        })
        .map(open),
      amount.map((size) => move('Deposit', size)),
      amount.map((size) => move('Withdraw', size)),
      fc.constant(close),
    )
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
        let account: Account | null = null
        const events: AccountEvent[] = []
        for (const next of commands) {
          const decision = decide(account, next)
          if (decision instanceof Problem) continue
          events.push(...decision)
          account = decision.reduce(evolve, account)
        }
        if (account === null) return
        expect(events.reduce<Account | null>(evolve, null)).toEqual(account)
        expect(events.map((event) => event.payload.after.version)).toEqual(
          events.map((_, i) => i + 1),
        )
        expect(availableOf(account)).toBeGreaterThanOrEqual(0n)
        if (account.status === 'closed') expect(account.ledgerBalance).toBe(0n)
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
