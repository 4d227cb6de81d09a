import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rowsWritten, testApi, type Sent, type TestApi } from './test-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await testApi()
})
afterAll(() => api[Symbol.asyncDispose]())

const any = { 'if-match': '*' }
const operator = { authorization: 'Bearer the-operator' }
const eur = (amount: string) => ({ body: { amount, currency: 'EUR' } })

/** Sends requests one after another to an account; the last one's answer. */
async function after(id: string, ...steps: [path: string, sent?: Sent][]) {
  let answer
  for (const [path, sent] of steps) answer = await api.send(`/accounts/${id}${path}`, sent)
  return answer as Awaited<ReturnType<TestApi['send']>>
}

const freeze = (scope: string): [string, Sent] => [
  '/freeze',
  { body: { scope, reason: 'a court' } },
]
const close: [string, Sent] = ['/close', { headers: any }]
const limit = (overdraftLimit: string): [string, Sent] => [
  '/overdraft-limit',
  { method: 'PUT', headers: any, body: { overdraftLimit } },
]
const details = (body: object, headers: Sent['headers'] = any): [string, Sent] => [
  '',
  { method: 'PATCH', headers, body },
]
const force = (amount: string, headers: Sent['headers'] = operator): [string, Sent] => [
  '/force-debits',
  { headers, body: { amount, reason: 'a fee' } },
]

describe('a freeze over REST', () => {
  it('stops what its scope says until it is lifted', async () => {
    const { id } = await api.opened('10')
    const frozen = await after(id, freeze('debits'))
    expect([frozen.status, frozen.json.freeze]).toEqual([200, 'debits'])
    const refused = await after(id, ['/withdrawals', eur('1')])
    expect(refused.json).toMatchObject({ status: 409, code: 'account_frozen', freeze: 'debits' })
    expect((await after(id, ['/deposits', eur('1')])).status).toBe(201)
    const lifted = await after(id, ['/unfreeze'])
    expect([lifted.status, lifted.json.freeze]).toEqual([200, null])
    expect((await after(id, ['/withdrawals', eur('11')])).status).toBe(201)
  })
})

describe('the overdraft limit over REST', () => {
  it('is lent as soon as it is set', async () => {
    const { id } = await api.opened()
    const set = await after(id, limit('50'))
    expect(set.status).toBe(200)
    expect(set.json).toMatchObject({ overdraftLimit: '50', available: '50', version: 2 })
    const drawn = await after(id, ['/withdrawals', eur('50')])
    expect(drawn.json.account).toMatchObject({ ledgerBalance: '-50', available: '0' })
  })
})

describe('details over REST', () => {
  it('are changed by whoever names the version they saw', async () => {
    const { id } = await api.opened()
    const [path, sent] = details({ owner: 'Zoë', metadata: { branch: '7' } }, { 'if-match': '"1"' })
    const first = await after(id, [path, sent])
    expect(first.status).toBe(200)
    expect(first.json).toMatchObject({ owner: 'Zoë', metadata: { branch: '7' }, version: 2 })
    const stale = await after(id, [path, { ...sent, headers: { 'if-match': '"1"' } }])
    expect(stale.json).toMatchObject({ status: 412, code: 'version_conflict', version: 2 })
    const kept = await after(id, details({ metadata: {} }, { 'if-match': '"2"' }))
    expect(kept.json).toMatchObject({ owner: 'Zoë', metadata: {}, version: 3 })
  })
})

describe('closing and opening again over REST', () => {
  it('keeps the history and goes on after it', async () => {
    const { id } = await api.opened('5')
    await after(id, ['/withdrawals', eur('5')], close)
    expect((await after(id, ['/deposits', eur('1')])).json.code).toBe('account_closed')
    const reopened = await after(id, ['/reopen'])
    expect([reopened.status, reopened.json.status]).toEqual([200, 'open'])
    const paid = await after(id, ['/deposits', eur('1')])
    expect(paid.json.account).toMatchObject({ ledgerBalance: '1', version: 6 })
    const { rows } = await api.pool.query(
      'select type from ledger.account_events where account_id = $1 order by version',
      [id],
    )
    expect(rows.map((row) => row.type)).toEqual([
      'AccountOpened.v1',
      'FundsDeposited.v1',
      'FundsWithdrawn.v1',
      'AccountClosed.v1',
      'AccountReopened.v1',
      'FundsDeposited.v1',
    ])
  })
})

describe('a forced debit over REST', () => {
  it("is the operator's, and takes what nobody else may", async () => {
    const { id } = await api.opened('10')
    const taken = await after(id, freeze('all'), force('60'))
    expect(taken.status).toBe(201)
    expect(taken.json.account).toMatchObject({ ledgerBalance: '-50', available: '-50' })
    for (const headers of [{}, { authorization: 'Bearer the-customer' }]) {
      const before = await rowsWritten(api)
      const refused = await after(id, force('1', headers))
      expect([refused.status, refused.json.code]).toEqual([403, 'not_allowed'])
      expect(await rowsWritten(api)).toBe(before)
    }
    const tooFar = await after(id, force('51'))
    expect(tooFar.json).toMatchObject({ code: 'force_limit_exceeded', limit: '100' })
  })
})

describe('a reversal over REST', () => {
  const reverse = (transactionId: string) =>
    api.send(`/transactions/${transactionId}/reversal`, { body: { reference: 'a mistake' } })

  it('moves back what one account was given, linked to what it reverses', async () => {
    const { id } = await api.opened('10')
    const { json } = await after(id, ['/deposits', eur('5')])
    const reversal = await reverse(json.transactionId)
    expect(reversal.status).toBe(201)
    expect(reversal.json).toEqual({
      transactionId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      reversedTransactionId: json.transactionId,
      account: expect.objectContaining({ id, ledgerBalance: '10', version: 4 }),
    })
    const { rows } = await api.pool.query(
      `select payload from ledger.account_events where account_id = $1 and version = 4`,
      [id],
    )
    expect(rows[0].payload).toMatchObject({
      reversedTransactionId: json.transactionId,
      direction: 'debit',
      amount: '5',
    })
  })

  it('moves a transfer back between the two', async () => {
    const [a, b] = [await api.opened('10'), await api.opened()]
    const sent = { body: { from: a.id, to: b.id, amount: '7' } }
    const { json } = await api.send('/transfers', sent)
    const reversal = await reverse(json.transactionId)
    expect(reversal.json).toMatchObject({
      from: { id: b.id, ledgerBalance: '0' },
      to: { id: a.id, ledgerBalance: '10' },
    })
    const again = await reverse(json.transactionId)
    expect(again.json).toMatchObject({
      status: 409,
      code: 'already_reversed',
      reversedBy: reversal.json.transactionId,
    })
  })

  it('happens once, whoever asks at the same moment', async () => {
    for (let round = 0; round < 5; round += 1) {
      const { id } = await api.opened()
      const { json } = await after(id, ['/deposits', eur('5')], ['/deposits', eur('5')])
      const answers = await Promise.all(
        Array.from({ length: 8 }, () => reverse(json.transactionId)),
      )
      const statuses = answers.map(({ status }) => status).toSorted()
      expect(statuses).toEqual([201, ...Array.from({ length: 7 }, () => 409)])
    }
  })
})

describe('each refusal', () => {
  type Case = [status: number, code: string, balance: string | undefined, ...[string, Sent?][]]
  const deposit: [string, Sent] = ['/deposits', eur('5')]
  it.each<Case>([
    [409, 'account_frozen', '10', freeze('credits'), deposit],
    [409, 'account_closed', undefined, close, deposit],
    [409, 'currency_mismatch', '10', ['/deposits', { body: { amount: '5', currency: 'USD' } }]],
    [409, 'insufficient_funds', '10', ['/withdrawals', eur('11')]],
    [409, 'already_frozen', '10', freeze('all'), freeze('all')],
    [409, 'not_frozen', '10', ['/unfreeze', {}]],
    [409, 'below_current_usage', undefined, limit('9'), ['/withdrawals', eur('9')], limit('8')],
    [428, 'precondition_required', '10', [limit('9')[0], { ...limit('9')[1], headers: {} }]],
    [412, 'version_conflict', '10', ['/deposits', { ...eur('5'), headers: { 'if-match': '"1"' } }]],
    [428, 'precondition_required', '10', details({ owner: 'Eve' }, {})],
    [400, 'invalid_request', '10', details({})],
    [400, 'invalid_request', '10', details({ metadata: { a: 1 } })],
    [400, 'invalid_request', '10', details({ metadata: { 'a b': '1' } })],
    [400, 'invalid_request', '10', details({ version: 9 })],
    [409, 'balance_not_zero', '10', close],
    [409, 'active_holds', undefined, limit('9'), ['/holds', { body: { amount: '5' } }], close],
    [409, 'account_closed', undefined, close, close],
    [409, 'account_not_closed', '10', ['/reopen', {}]],
    [409, 'force_limit_exceeded', '10', force('111')],
    [400, 'invalid_request', '10', ['/freeze', { body: { scope: 'some', reason: 'x' } }]],
    [400, 'invalid_request', '10', ['/freeze', { body: { scope: 'all' } }]],
    [400, 'invalid_request', '10', ['/force-debits', { headers: operator, body: { amount: '1' } }]],
    [405, 'method_not_allowed', '10', ['/overdraft-limit', { body: { overdraftLimit: '1' } }]],
  ])('%i %s (account with %s): %j %j %j', async (status, code, balance, ...steps) => {
    const { id } = await api.opened(balance)
    const answer = await after(id, ...steps)
    expect([answer.status, answer.json.code]).toEqual([status, code])
    expect(answer.type).toBe('application/problem+json')
  })

  it.each([
    [404, 'account_not_found', '/transfers', { from: 'nobody', to: 'b', amount: '1' }],
    [409, 'same_account', '/transfers', { from: 'a', to: 'a', amount: '1' }],
    [409, 'account_id_taken', '/accounts', { id: 'a', owner: 'A', currency: 'EUR' }],
    [409, 'insufficient_funds', '/transfers', { from: 'a', to: 'b', amount: '1' }],
    [409, 'currency_mismatch', '/transfers', { from: 'a', to: 'c', amount: '1' }],
    [400, 'invalid_request', '/transfers', { from: 'a', to: 'sluice-cash-EUR', amount: '1' }],
    [404, 'transaction_not_found', `/transactions/${randomUUID()}/reversal`, {}],
    [400, 'invalid_request', '/transactions/none/reversal', {}],
  ])('%i %s: %s %j', async (status, code, path, body) => {
    for (const [id, currency] of Object.entries({ a: 'EUR', b: 'EUR', c: 'USD' })) {
      await api.opened(undefined, { id, currency })
    }
    const answer = await api.send(path, { body })
    expect([answer.status, answer.json.code]).toEqual([status, code])
  })

  it('no reversal is reversed', async () => {
    const { id } = await api.opened()
    const { json } = await after(id, deposit)
    const reversal = await api.send(`/transactions/${json.transactionId}/reversal`)
    const again = await api.send(`/transactions/${reversal.json.transactionId}/reversal`)
    expect([again.status, again.json.code]).toEqual([409, 'not_reversible'])
  })
})
