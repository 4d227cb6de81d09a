import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rowsWritten } from '../test-api.ts'
import type { Asked } from './test-bank.ts'
import { openService, type Service } from './test-service.ts'
import { requestOf } from './test-steps.ts'
import { sameOf } from './test-world.ts'

let service: Service
beforeAll(async () => {
  service = await openService()
})
afterAll(() => service[Symbol.asyncDispose]())

/** Fifty requests at the same moment, half to each of two servers; what is new in the tables. */
async function fifty(asked: Asked, keyOf: () => string) {
  const before = (await rowsWritten(service.apis[0])).split(' ').map(Number)
  const sending = Array.from({ length: 50 }, (_, n) => {
    const { path, sent } = requestOf(asked, keyOf())
    return service.apis[n % 2]!.send(path, sent)
  })
  const answers = await Promise.all(sending)
  const rows = (await rowsWritten(service.apis[0])).split(' ').map(Number)
  return {
    answers: new Set(answers.map((answer) => JSON.stringify(sameOf(answer)))).size,
    firsts: answers.filter(({ headers }) => !headers.has('idempotent-replayed')).length,
    keys: rows[6]! - before[6]!,
    events: rows[1]! - before[1]!,
  }
}

/** An account with 100, another with nothing, and a hold and a transaction of the first. */
async function bank() {
  const [api] = service.apis
  const [{ id: account }, { id: other }] = [await api.opened('100'), await api.opened()]
  const held = await api.send(`/accounts/${account}/holds`, { body: { amount: '10' } })
  const paid = await api.send(`/accounts/${account}/deposits`, {
    body: { amount: '5', currency: 'EUR' },
  })
  return { account, other, hold: held.json.hold.id, transaction: paid.json.transactionId }
}

type Given = Awaited<ReturnType<typeof bank>>

describe('fifty requests with one key at the same moment', () => {
  it.each<[string, number, (given: Given) => Asked]>([
    [
      'an opening',
      2,
      () => ({
        kind: 'OpenAccount',
        owner: 'Ada',
        currency: 'EUR',
        type: 'current',
        account: randomUUID(),
        overdraftLimit: 0n,
        openingDeposit: 5n,
      }),
    ],
    ['a deposit', 1, ({ account }) => ({ kind: 'Deposit', account, amount: 7n, currency: 'EUR' })],
    [
      'a transfer',
      2,
      ({ account, other }) => ({
        kind: 'Transfer',
        from: account,
        to: other,
        amount: 60n,
      }),
    ],
    ['a hold', 1, ({ account }) => ({ kind: 'PlaceHold', account, amount: 60n })],
    ['a capture', 1, ({ account, hold }) => ({ kind: 'CaptureHold', account, hold, amount: 3n })],
    ['a reversal', 1, ({ transaction }) => ({ kind: 'ReverseTransaction', transaction })],
    ['a forced debit', 1, ({ account }) => ({ kind: 'ForceDebit', account, amount: 90n })],
    [
      'a refusal',
      0,
      ({ other }) => ({
        kind: 'Withdraw',
        account: other,
        amount: 1n,
        currency: 'EUR',
      }),
    ],
  ])('%s has one effect, and all are told the same', async (_, events, ask) => {
    const asked = ask(await bank())
    const key = randomUUID()
    expect(await fifty(asked, () => key)).toEqual({ answers: 1, firsts: 1, keys: 1, events })
  })

  it('are told apart from fifty with a key each', async () => {
    const { account } = await bank()
    const asked: Asked = { kind: 'Deposit', account, amount: 7n, currency: 'EUR' }
    expect(await fifty(asked, randomUUID)).toEqual({
      answers: 50,
      firsts: 50,
      keys: 50,
      events: 50,
    })
  })
})
