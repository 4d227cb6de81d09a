import { Problem } from 'service/problem'
import { describe, expect, it } from 'vitest'
import { evolve, type Account } from './account.ts'
import { changesOf, type Books } from './books.ts'
import { decide, type Command } from './commands.ts'
import type { AccountEvent } from './events.ts'
import { balanceLimitMinor } from './money.ts'
import * as given from './test-commands.ts'

const { open, deposit, withdraw, close, reopen, transfer, placeHold, capture, release } = given
const { expire, freeze, unfreeze, limit, reverse, details, forceDebit } = given

/** The books after events, as the database keeps them. */
function merge(books: Books, events: readonly AccountEvent[]): Books {
  const transactions = given.transactionsOf(events)
  const written = given.merge(books, { ...given.noBooks, transactions })
  return given.merge(written, changesOf(books, events))
}

/** Runs commands one after another; the last one's decision, and the books before and after it. */
function after(...commands: Command[]) {
  let before: Books = given.noBooks
  let decision: readonly AccountEvent[] | Problem = []
  let books = before
  for (const command of commands) {
    before = books
    decision = decide(before, command)
    if (!(decision instanceof Problem)) books = merge(before, decision)
  }
  return { decision, books }
}

const outcome = (...commands: Command[]) => {
  const { decision } = after(...commands)
  return decision instanceof Problem ? decision.code : decision.map((event) => event.type)
}

const open5 = open({ openingDeposit: 5n })
const other = open({ accountId: 'acc-2' })
const hold5 = placeHold(5n)

describe('a command is accepted or refused', () => {
  it.each<[string, Command[], string | string[]]>([
    ['opens', [open()], ['AccountOpened.v1']],
    ['opens with money', [open5], ['AccountOpened.v1', 'FundsDeposited.v1']],
    ['opens once', [open(), open()], 'account_id_taken'],
    ['opens in listed currencies', [open({ currency: 'QQQ' })], 'unsupported_currency'],
    ['is opened before anything', [deposit(1n)], 'account_not_found'],
    ['takes a deposit', [open(), deposit(1n)], ['FundsDeposited.v1']],
    ['keeps one currency', [open(), deposit(1n, { currency: 'USD' })], 'currency_mismatch'],
    ['gives what it has', [open5, withdraw(5n)], ['FundsWithdrawn.v1']],
    ['gives no more', [open5, withdraw(6n)], 'insufficient_funds'],
    ['lends its overdraft', [open({ overdraftLimit: 9n }), withdraw(9n)], ['FundsWithdrawn.v1']],
    ['lends no more', [open({ overdraftLimit: 9n }), withdraw(10n)], 'insufficient_funds'],
    [
      'holds at most 18 digits',
      [open({ openingDeposit: balanceLimitMinor }), deposit(1n)],
      'balance_limit_exceeded',
    ],

    ['closes empty', [open(), close], ['AccountClosed.v1']],
    ['closes with no money on it', [open5, close], 'balance_not_zero'],
    [
      'closes with no debt',
      [open({ overdraftLimit: 5n }), withdraw(5n), close],
      'balance_not_zero',
    ],
    ['closes with no hold', [open({ overdraftLimit: 5n }), hold5, close], 'active_holds'],
    ['closes unfrozen', [open(), freeze('credits'), close], 'account_frozen'],
    ['stays closed', [open(), close, deposit(1n)], 'account_closed'],
    ['closes once', [open(), close, close], 'account_closed'],
    ['reopens', [open(), close, reopen], ['AccountReopened.v1']],
    ['reopens to work', [open(), close, reopen, deposit(1n)], ['FundsDeposited.v1']],
    ['reopens when closed', [open(), reopen], 'account_not_closed'],
    ['reopens what there is', [reopen], 'account_not_found'],

    [
      'transfers',
      [open5, other, transfer(5n)],
      ['FundsTransferredOut.v1', 'FundsTransferredIn.v1'],
    ],
    ['transfers no more than there is', [open5, other, transfer(6n)], 'insufficient_funds'],
    ['transfers to another', [open5, transfer(1n, { to: 'acc-1' })], 'same_account'],
    ['transfers from what there is', [other, transfer(1n)], 'account_not_found'],
    ['transfers to what there is', [open5, transfer(1n)], 'account_not_found'],
    [
      'transfers to an open account',
      [open5, other, { ...close, accountId: 'acc-2' }, transfer(1n)],
      'account_closed',
    ],
    [
      'transfers in one currency',
      [open5, open({ accountId: 'acc-2', currency: 'USD' }), transfer(1n)],
      'currency_mismatch',
    ],
    [
      'transfers in the currency of both',
      [open5, other, transfer(1n, { currency: 'USD' })],
      'currency_mismatch',
    ],
    [
      'transfers to whom credits are allowed',
      [open5, other, { ...freeze('credits'), accountId: 'acc-2' }, transfer(1n)],
      'account_frozen',
    ],
    [
      'transfers to who has room',
      [open5, open({ accountId: 'acc-2', openingDeposit: balanceLimitMinor }), transfer(1n)],
      'balance_limit_exceeded',
    ],

    ['holds what is available', [open5, hold5], ['HoldPlaced.v1']],
    ['holds no more', [open5, placeHold(6n)], 'insufficient_funds'],
    ['holds it once', [open5, hold5, placeHold(1n, 2)], 'insufficient_funds'],
    ['gives nothing that is held', [open5, hold5, withdraw(1n)], 'insufficient_funds'],
    ['holds in its currency', [open5, { ...hold5, currency: 'USD' }], 'currency_mismatch'],
    [
      'holds at most 18 digits',
      [
        open({ openingDeposit: balanceLimitMinor, overdraftLimit: 9n }),
        placeHold(balanceLimitMinor),
        placeHold(1n, 2),
      ],
      'balance_limit_exceeded',
    ],
    ['captures a hold', [open5, hold5, capture()], ['HoldCaptured.v1']],
    ['captures a part', [open5, hold5, capture(2n)], ['HoldCaptured.v1']],
    ['captures no more', [open5, hold5, capture(6n)], 'exceeds_held_amount'],
    ['captures once', [open5, hold5, capture(2n), capture(2n)], 'hold_not_active'],
    ['captures its own holds', [open5, capture()], 'hold_not_found'],
    [
      'captures no hold of another',
      [open5, other, hold5, { ...capture(), accountId: 'acc-2' }],
      'hold_not_found',
    ],
    [
      'captures until the hold expires',
      [open5, hold5, { ...capture(), at: given.later }],
      'hold_not_active',
    ],
    [
      'captures in its currency',
      [open5, hold5, { ...capture(), currency: 'USD' }],
      'currency_mismatch',
    ],
    ['captures unfrozen', [open5, hold5, freeze('debits'), capture()], 'account_frozen'],
    ['releases a hold', [open5, hold5, release], ['HoldReleased.v1']],
    ['releases it frozen too', [open5, hold5, freeze('all'), release], ['HoldReleased.v1']],
    ['releases once', [open5, hold5, release, release], 'hold_not_active'],
    ['expires a hold', [open5, hold5, expire], ['HoldExpired.v1']],
    ['expires once', [open5, hold5, expire, expire], 'hold_not_active'],
    ['gives what is free again', [open5, hold5, expire, withdraw(5n)], ['FundsWithdrawn.v1']],

    ['freezes', [open(), freeze('all')], ['AccountFrozen.v1']],
    ['freezes once', [open(), freeze('all'), freeze('all')], 'already_frozen'],
    ['freezes for more', [open(), freeze('debits'), freeze('all')], ['AccountFrozen.v1']],
    ['freezes what is open', [open(), close, freeze('all')], 'account_closed'],
    ['unfreezes', [open(), freeze('all'), unfreeze], ['AccountUnfrozen.v1']],
    ['unfreezes what is frozen', [open(), unfreeze], 'not_frozen'],
    ['frozen, takes nothing', [open(), freeze('all'), deposit(1n)], 'account_frozen'],
    ['frozen, gives nothing', [open5, freeze('all'), withdraw(1n)], 'account_frozen'],
    ['frozen, holds nothing', [open5, freeze('debits'), placeHold(1n)], 'account_frozen'],
    ['frozen for debits, takes', [open5, freeze('debits'), deposit(1n)], ['FundsDeposited.v1']],
    ['frozen for debits, gives nothing', [open5, freeze('debits'), withdraw(1n)], 'account_frozen'],
    [
      'frozen for credits, takes nothing',
      [open(), freeze('credits'), deposit(1n)],
      'account_frozen',
    ],
    ['frozen for credits, gives', [open5, freeze('credits'), withdraw(1n)], ['FundsWithdrawn.v1']],

    ['changes its limit', [open(), limit(9n)], ['OverdraftLimitChanged.v1']],
    [
      'keeps a limit that is used',
      [open({ overdraftLimit: 9n }), withdraw(5n), limit(4n)],
      'below_current_usage',
    ],
    [
      'keeps a limit that is held',
      [open({ overdraftLimit: 9n }), hold5, limit(4n)],
      'below_current_usage',
    ],
    [
      'lowers it to what is used',
      [open({ overdraftLimit: 9n }), withdraw(5n), limit(5n)],
      ['OverdraftLimitChanged.v1'],
    ],
    [
      'raises it below what a forced debit took',
      [open(), forceDebit(50n), limit(10n)],
      ['OverdraftLimitChanged.v1'],
    ],

    ['reverses a deposit', [open(), deposit(5n), reverse('Deposit')], ['TransactionReversed.v1']],
    [
      'reverses a withdrawal',
      [open5, withdraw(5n), reverse('Withdraw')],
      ['TransactionReversed.v1'],
    ],
    [
      'reverses a capture',
      [open5, hold5, capture(), reverse('CaptureHold')],
      ['TransactionReversed.v1'],
    ],
    [
      'reverses both sides of a transfer',
      [open5, other, transfer(5n), reverse('Transfer')],
      ['TransactionReversed.v1', 'TransactionReversed.v1'],
    ],
    [
      'reverses once',
      [open(), deposit(5n), reverse('Deposit'), reverse('Deposit')],
      'already_reversed',
    ],
    [
      'reverses no reversal',
      [open(), deposit(5n), reverse('Deposit'), reverse('ReverseTransaction')],
      'not_reversible',
    ],
    ['reverses what happened', [open(), reverse('Deposit')], 'transaction_not_found'],
    [
      'reverses what is still there',
      [open(), deposit(5n), withdraw(1n), reverse('Deposit')],
      'insufficient_funds',
    ],
    [
      'reverses a transfer when the payee still has it',
      [open5, other, transfer(5n), withdraw(5n, { accountId: 'acc-2' }), reverse('Transfer')],
      'insufficient_funds',
    ],
    [
      'reverses on open accounts',
      [open5, withdraw(5n), close, reverse('Withdraw')],
      'account_closed',
    ],
    [
      'reverses unfrozen',
      [open(), deposit(5n), freeze('debits'), reverse('Deposit')],
      'account_frozen',
    ],

    ['updates its details', [open(), details({ owner: 'Eve' })], ['AccountDetailsUpdated.v1']],
    ['updates no closed account', [open(), close, details({ owner: 'Eve' })], 'account_closed'],

    ['is debited by force', [open(), forceDebit(100n)], ['FundsForceDebited.v1']],
    [
      'is debited by force, frozen',
      [open(), freeze('all'), forceDebit(1n)],
      ['FundsForceDebited.v1'],
    ],
    ['is debited so far', [open(), forceDebit(101n)], 'force_limit_exceeded'],
    [
      'is not debited again and again',
      [open(), forceDebit(99n), forceDebit(2n)],
      'force_limit_exceeded',
    ],
    ['is debited by force while open', [open(), close, forceDebit(1n)], 'account_closed'],
  ])('%s', (_, commands, expected) => {
    expect(outcome(...commands)).toEqual(expected)
  })

  it('says what is available and what was asked when it refuses a debit', () => {
    const { decision } = after(open({ openingDeposit: 5n, overdraftLimit: 2n }), withdraw(8n))
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
})

describe('what a command leaves', () => {
  const account = (books: Books, id = 'acc-1') => books.accounts.get(id) as Account

  it('a transfer moves money from one to the other, each linked to the other', () => {
    const { books, decision } = after(open5, other, transfer(2n))
    expect(account(books).ledgerBalance).toBe(3n)
    expect(account(books, 'acc-2').ledgerBalance).toBe(2n)
    const [out, into] = decision as AccountEvent[]
    expect(out?.payload).toMatchObject({ accountId: 'acc-1', counterpartyId: 'acc-2' })
    expect(into?.payload).toMatchObject({ accountId: 'acc-2', counterpartyId: 'acc-1' })
  })

  it('a part captured frees the rest of the hold', () => {
    const { books } = after(open5, hold5, capture(2n))
    expect(account(books)).toMatchObject({ ledgerBalance: 3n, held: 0n })
    expect([...books.holds.values()]).toMatchObject([{ status: 'captured', amount: 5n }])
  })

  it('a reversal puts every balance back', () => {
    const { books } = after(open5, other, transfer(2n), reverse('Transfer'))
    expect(account(books).ledgerBalance).toBe(5n)
    expect(account(books, 'acc-2').ledgerBalance).toBe(0n)
  })

  it('details that are not given stay, and metadata is replaced as a whole', () => {
    const { books } = after(
      open(),
      details({ metadata: { a: '1', b: '2' } }),
      details({ owner: 'Eve' }),
      details({ metadata: { b: '3' } }),
    )
    expect(account(books)).toMatchObject({ owner: 'Eve', metadata: { b: '3' } })
    expect(account(books).metadata).toEqual({ b: '3' })
  })

  it('decides without changing what it decides on', () => {
    const { books } = after(open5, hold5)
    const before = structuredClone(books)
    const decision = decide(books, capture())
    changesOf(books, decision as AccountEvent[])
    expect(books).toEqual(before)
  })

  it('refuses an event that disagrees with the state it claims to leave', () => {
    const [opened, deposited] = after(open5).decision as AccountEvent[]
    const first = evolve(null, opened as AccountEvent)
    const lying = structuredClone(deposited as AccountEvent)
    lying.payload.after.ledgerBalance = '6'
    expect(() => evolve(first, lying)).toThrow('balance after the event')
    expect(() => evolve(null, deposited as AccountEvent)).toThrow('before it is opened')
    const elsewhere = { ...first, id: 'acc-9' }
    expect(() => evolve(elsewhere, deposited as AccountEvent)).toThrow('its own account')
  })
})
