import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rules, type Rules } from './test-bank.ts'
import { brokenIn, readLedger, type Ledger } from './test-ledger.ts'
import { oneAfterAnother, type Steps } from './test-properties.ts'
import { openService, type Service } from './test-service.ts'
import { failureOf, seed } from './test-steps.ts'

let service: Service
beforeAll(async () => {
  service = await openService()
})
afterAll(() => service[Symbol.asyncDispose]())

describe(`random commands, one after another (MODEL_SEED=${seed})`, () => {
  it('are answered as the model of the domain says, and every invariant holds', async () => {
    await fc.assert(oneAfterAnother(service), {
      seed,
      numRuns: 40,
      interruptAfterTimeLimit: 25_000,
    })
  })

  // The kinds of command beside each make it come up soon; with all of them it would, but later.
  it.each<[string, Partial<Rules>, Steps]>([
    [
      'lends no overdraft',
      { available: (account) => rules.available(account) - account.overdraftLimit },
      { Withdraw: 1 },
    ],
    [
      'keeps a unit more',
      { available: (account) => rules.available(account) - 1n },
      { PlaceHold: 1 },
    ],
    ['lets a frozen account pay', { stopsDebits: () => false }, { FreezeAccount: 1, Withdraw: 3 }],
    ['lets one be paid', { stopsCredits: () => false }, { FreezeAccount: 1, Deposit: 3 }],
    [
      'stops credits with debits',
      { stopsCredits: (freeze) => freeze !== null },
      { FreezeAccount: 1, Transfer: 3 },
    ],
    ['captures what has expired', { isDue: () => false }, { PlaceHold: 2, CaptureHold: 3 }],
    [
      'captures always the whole',
      { captured: (hold) => hold.amount },
      { PlaceHold: 1, CaptureHold: 1 },
    ],
    ['reverses twice', { isReversed: () => false }, { Deposit: 1, ReverseTransaction: 3 }],
    ['closes with money on it', { mayClose: () => true }, { Deposit: 1, CloseAccount: 1 }],
    ['takes any currency', { currencyIs: () => true }, { Deposit: 1 }],
    ['forces any debit', { forceDebitLimit: 10n ** 18n }, { ForceDebit: 1 }],
  ])('a model that %s is caught', async (_, wrong, weights) => {
    expect(await failureOf(oneAfterAnother(service, { ...rules, ...wrong }, weights))).toBe(
      'AssertionError',
    )
  })
})

describe('the checks of what the tables say', () => {
  let ledger: Ledger
  beforeAll(async () => {
    const [api] = service.apis
    const body = { id: 'a', owner: 'Ada', currency: 'EUR', openingDeposit: '100' }
    await api.send('/accounts', { body: { ...body, id: 'tampered-a' } })
    await api.send('/accounts', { body: { ...body, id: 'tampered-b' } })
    await api.send('/accounts/tampered-a/holds', { body: { amount: '9' } })
    const sent = { body: { from: 'tampered-a', to: 'tampered-b', amount: '91' } }
    await api.send('/transfers', sent)
    await api.send('/accounts', { body: { id: 'tampered-c', owner: 'Ada', currency: 'EUR' } })
    await api.send('/accounts/tampered-c/close', { headers: { 'if-match': '*' } })
    ledger = await readLedger(service.admin, 'tampered-')
  })

  const of = <T extends { account: string }>(rows: T[], id: string) =>
    rows.filter(({ account }) => account === `tampered-${id}`)
  const row = ({ accounts }: Ledger, id: string) =>
    accounts.find((account) => account.id === `tampered-${id}`)!

  it('find nothing where nothing was changed', () => {
    expect(ledger.events).toHaveLength(9)
    expect(brokenIn(ledger)).toEqual([])
  })

  it.each<[string, (copy: Ledger) => unknown]>([
    ['versions', (copy) => copy.events.splice(1, 1)],
    ['versions', (copy) => (of(copy.events, 'a')[2]!.version = 9)],
    ['versions', (copy) => (row(copy, 'a').version += 1)],
    ['positions', (copy) => (of(copy.events, 'b')[1]!.position = 0n)],
    ['queue', (copy) => copy.queue.pop()],
    ['queue', (copy) => copy.queue.push(copy.queue[0]!)],
    ['queue', (copy) => (copy.queue[0]!.payload = '{}')],
    ['held', (copy) => (of(copy.holds, 'a')[0]!.status = 'released')],
    ['held', (copy) => (row(copy, 'a').held = 0n)],
    ['balance', (copy) => (row(copy, 'b').balance += 1n)],
    ['conserved', (copy) => (row(copy, 'b').balance += 1n)],
    ['zero', (copy) => copy.entries.pop()],
    ['entries', (copy) => (of(copy.entries, 'a')[0]!.amount += 1n)],
    ['closed', (copy) => (row(copy, 'b').status = 'closed')],
    ['fold', (copy) => (row(copy, 'b').limit = 1n)],
    ['fold', (copy) => (of(copy.events, 'b')[1]!.payload.amount = '1')],
    ['limit', (copy) => (of(copy.events, 'a')[3]!.payload.amount = '92')],
  ])('find a tampered row: %s (%#)', (name, tamper) => {
    const copy = structuredClone(ledger)
    tamper(copy)
    expect(brokenIn(copy).map((each) => each.split(':')[0])).toContain(name)
  })
})
