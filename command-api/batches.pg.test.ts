import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rowsWritten, testApi, type TestApi } from './test-api.ts'
import { decodeToken } from './token.ts'

let api: TestApi
beforeAll(async () => {
  api = await testApi()
})
afterAll(() => api[Symbol.asyncDispose]())

type Item = { key?: string; command: string; [field: string]: unknown }

const send = (atomic: boolean, items: Item[], query = '') =>
  api.send(`/batches${query}`, {
    body: { atomic, commands: items.map((item) => ({ key: randomUUID(), ...item })) },
    headers: { 'idempotency-key': null },
  })

const deposit = (accountId: string, amount: string, more: object = {}): Item => ({
  command: 'Deposit',
  accountId,
  amount,
  currency: 'EUR',
  ...more,
})
const withdraw = (accountId: string, amount: string, more: object = {}): Item => ({
  ...deposit(accountId, amount, more),
  command: 'Withdraw',
})

const statusesOf = (answer: { json: { items: { status: number }[] } }) =>
  answer.json.items.map(({ status }) => status)

const balanceOf = async (id: string) =>
  (await api.pool.query('select ledger_balance from ledger.accounts where id = $1', [id])).rows[0]
    .ledger_balance

describe('a batch of commands, each for itself', () => {
  it('answers item by item, in order, with what each would have been told alone', async () => {
    const { id } = await api.opened()
    const answer = await send(false, [
      deposit(id, '5', { key: 'batch-1' }),
      withdraw(id, '9'),
      withdraw(id, '5'),
      { command: 'OpenAccount', id: 'batch-made', owner: 'Bob', currency: 'EUR' },
      { command: 'Transfer', from: id, to: 'batch-made', amount: '1' },
      { command: 'CloseAccount', accountId: id, ifMatch: '"3"' },
    ])
    expect(answer.status).toBe(200)
    expect(statusesOf(answer)).toEqual([201, 409, 201, 201, 409, 200])
    expect(answer.json.items[0]).toMatchObject({
      key: 'batch-1',
      replayed: false,
      etag: '"2"',
      body: { transactionId: expect.any(String), account: { id, ledgerBalance: '5' } },
    })
    expect(answer.json.items[1].body.code).toBe('insufficient_funds')
    const token = decodeToken(answer.headers.get('consistency-token') ?? '')
    expect(token).toEqual(
      new Map([
        [id, 4],
        ['batch-made', 1],
      ]),
    )
  })

  it('repeated gives the same answers, and happens once', async () => {
    const { id } = await api.opened()
    const items = [
      deposit(id, '5', { key: randomUUID() }),
      withdraw(id, '9', { key: randomUUID() }),
    ]
    const [first, second] = [await send(false, items), await send(false, items)]
    expect(second.headers.get('idempotent-replayed')).toBe('true')
    const bodies = (answer: typeof first) =>
      answer.json.items.map((item: { body: unknown }) => item.body)
    expect(bodies(second)).toEqual(bodies(first))
    expect(await balanceOf(id)).toBe('5')
  })

  it('keeps the order of an account through 200 commands, transfers and reversals among them', async () => {
    const [a, b] = [await api.opened('1'), await api.opened()]
    const { json } = await api.send(`/accounts/${a.id}/deposits`, {
      body: { amount: '100', currency: 'EUR' },
    })
    const steps = Array.from({ length: 198 }, (_, n) =>
      n % 2 === 0
        ? { command: 'Transfer', from: a.id, to: b.id, amount: '101' }
        : { command: 'Transfer', from: b.id, to: a.id, amount: '101' },
    )
    const reversal = { command: 'ReverseTransaction', transactionId: json.transactionId }
    const answer = await send(false, [...steps, reversal, withdraw(a.id, '2')])
    expect(statusesOf(answer)).toEqual([...steps.map(() => 201), 201, 409])
  })
})

describe('an atomic batch', () => {
  it('happens as a whole, in one transaction', async () => {
    const [a, b] = [await api.opened('10'), await api.opened()]
    const answer = await send(true, [
      { command: 'Transfer', from: a.id, to: b.id, amount: '10' },
      withdraw(b.id, '10'),
      { command: 'CloseAccount', accountId: b.id, ifMatch: '*' },
    ])
    expect([answer.status, ...statusesOf(answer)]).toEqual([200, 201, 201, 200])
    const { rows } = await api.pool.query(
      'select count(distinct xmin::text)::int as n from ledger.account_events where account_id = $1 and version > 1',
      [b.id],
    )
    expect(rows).toEqual([{ n: 1 }])
  })

  it('does nothing at all when one is refused, and says which', async () => {
    const [a, b] = [await api.opened('10'), await api.opened()]
    const items = [
      deposit(a.id, '5', { key: randomUUID() }),
      withdraw(b.id, '1', { key: randomUUID() }),
      deposit(b.id, '1', { key: randomUUID() }),
    ]
    const before = (await rowsWritten(api)).split(' ').slice(0, 6)
    const answer = await send(true, items)
    expect(answer).toMatchObject({ status: 409, type: 'application/problem+json' })
    expect(answer.json).toMatchObject({
      code: 'batch_refused',
      errors: [{ pointer: '/commands/1', message: 'insufficient_funds' }],
    })
    const codes = answer.json.items.map((item: { body: { code: string } }) => item.body.code)
    expect(codes).toEqual(['batch_not_applied', 'insufficient_funds', 'batch_not_applied'])
    expect((await rowsWritten(api)).split(' ').slice(0, 6)).toEqual(before)
    await api.send(`/accounts/${b.id}/deposits`, { body: { amount: '9', currency: 'EUR' } })
    const again = await send(true, items)
    expect(again.headers.get('idempotent-replayed')).toBe('true')
    expect(again.json.items.map((item: { body: unknown }) => item.body)).toEqual(
      answer.json.items.map((item: { body: unknown }) => item.body),
    )
  })

  it('repeated under its keys is answered again; with one key in another batch it is refused', async () => {
    const { id } = await api.opened()
    const items = [deposit(id, '5', { key: randomUUID() }), deposit(id, '6', { key: randomUUID() })]
    const first = await send(true, items)
    const second = await send(true, items)
    expect(second.headers.get('idempotent-replayed')).toBe('true')
    expect(statusesOf(second)).toEqual(statusesOf(first))
    const mixed = await send(true, [items[0] as Item, deposit(id, '7')])
    expect(mixed.json.code).toBe('batch_refused')
    const codes = mixed.json.items.map((item: { body: { code: string } }) => item.body.code)
    expect(codes).toEqual(['idempotency_key_reused', 'batch_not_applied'])
    expect(await balanceOf(id)).toBe('11')
  })

  it('sent ten times at once happens once', async () => {
    const { id } = await api.opened()
    const items = [deposit(id, '5', { key: randomUUID() }), deposit(id, '6', { key: randomUUID() })]
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(true, items)))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    expect(await balanceOf(id)).toBe('11')
  })

  it('of many accounts has its token in the body', async () => {
    const items = Array.from({ length: 60 }, (_, n) => ({
      command: 'OpenAccount',
      id: `many-${n}`,
      owner: 'Ada',
      currency: 'EUR',
    }))
    const answer = await send(true, items)
    expect(answer.headers.get('consistency-token')).toBe(null)
    const contents = Buffer.from(answer.json.token.slice(3), 'base64url').toString()
    expect(Object.keys(JSON.parse(contents))).toHaveLength(60)
  })
})

describe('a batch that is refused as a request', () => {
  const fine = deposit('x', '1')
  it.each([
    [400, 'invalid_request', '/commands', { atomic: true, commands: [] }],
    [400, 'invalid_request', '/atomic', { commands: [{ ...fine, key: 'a' }] }],
    [400, 'invalid_request', '/commands/0/key', { atomic: true, commands: [fine] }],
    [
      400,
      'invalid_request',
      '/commands/1/key',
      { atomic: true, commands: [fine, fine].map((item) => ({ ...item, key: 'a' })) },
    ],
    [
      400,
      'invalid_request',
      '/commands/0/command',
      { atomic: true, commands: [{ ...fine, command: 'Steal', key: 'a' }] },
    ],
    [
      400,
      'invalid_request',
      '/commands/0/amount',
      { atomic: true, commands: [{ ...fine, amount: '-5', key: 'a' }] },
    ],
    [
      400,
      'invalid_request',
      '/commands/0/accountId',
      { atomic: true, commands: [{ ...fine, accountId: 'a b', key: 'a' }] },
    ],
    [
      400,
      'invalid_request',
      '/commands/0/balance',
      { atomic: true, commands: [{ ...fine, balance: '9', key: 'a' }] },
    ],
    [
      428,
      'precondition_required',
      '/commands/0',
      { atomic: false, commands: [{ command: 'CloseAccount', accountId: 'x', key: 'a' }] },
    ],
    [
      403,
      'not_allowed',
      '/commands/0',
      {
        atomic: false,
        commands: [{ command: 'ForceDebit', accountId: 'x', amount: '1', reason: 'r', key: 'a' }],
      },
    ],
    [
      400,
      'invalid_request',
      '/commands',
      {
        atomic: true,
        commands: Array.from({ length: 201 }, (_, n) => ({ ...fine, key: `${n}` })),
      },
    ],
  ])('%i %s at %s', async (status, code, pointer, body) => {
    const before = await rowsWritten(api)
    const answer = await api.send('/batches', { body })
    expect([answer.status, answer.json.code]).toEqual([status, code])
    expect(answer.json.errors[0].pointer).toBe(pointer)
    expect(await rowsWritten(api)).toBe(before)
  })

  it('takes a body of more than 64 kB, and none of more than 256 kB', async () => {
    const { id } = await api.opened()
    const items = (reference: string) =>
      Array.from({ length: 200 }, () => deposit(id, '1', { reference }))
    const large = await send(false, items('r'.repeat(200)))
    expect([large.status, new Set(statusesOf(large))]).toEqual([200, new Set([201])])
    const body = { atomic: false, commands: [], padding: 'x'.repeat(256 * 1_024) }
    expect((await api.send('/batches', { body })).json.code).toBe('body_too_large')
  })
})

describe('a dry run', () => {
  it('answers as the command would, and writes nothing, whoever asks without a key', async () => {
    const [a, b] = [await api.opened('10'), await api.opened()]
    const headers = { 'idempotency-key': null }
    const before = await rowsWritten(api)
    const accepted = await api.send('/transfers?dryRun=true', {
      headers,
      body: { from: a.id, to: b.id, amount: '10' },
    })
    expect(accepted.status).toBe(201)
    expect(accepted.json).toMatchObject({
      from: { ledgerBalance: '0' },
      to: { ledgerBalance: '10' },
    })
    expect(accepted.headers.get('consistency-token')).toBe(null)
    expect(accepted.headers.get('etag')).toBe(null)
    const refused = await api.send(`/accounts/${a.id}/withdrawals?dryRun=true`, {
      headers,
      body: { amount: '11', currency: 'EUR' },
    })
    expect([refused.status, refused.json.code]).toEqual([409, 'insufficient_funds'])
    const opened = await api.send('/accounts?dryRun=true', {
      headers,
      body: { id: 'dry', owner: 'Ada', currency: 'EUR' },
    })
    expect(opened.json).toMatchObject({ id: 'dry', version: 1 })
    expect(await rowsWritten(api)).toBe(before)
  })

  it('of an atomic batch decides each command after those before it', async () => {
    const { id } = await api.opened()
    const before = await rowsWritten(api)
    const items = [deposit(id, '5'), withdraw(id, '5')]
    expect(statusesOf(await send(true, items, '?dryRun=true'))).toEqual([201, 201])
    expect(statusesOf(await send(true, items.toReversed(), '?dryRun=true'))).toEqual([409, 409])
    expect(statusesOf(await send(false, items, '?dryRun=true'))).toEqual([201, 409])
    expect(await rowsWritten(api)).toBe(before)
  })

  it('is not seen by the commands around it', async () => {
    const { id } = await api.opened('5')
    const sent = { body: { amount: '5', currency: 'EUR' } }
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, n) =>
        api.send(`/accounts/${id}/withdrawals${n === 20 ? '' : '?dryRun=true'}`, sent),
      ),
    )
    expect(answers[20]?.status).toBe(201)
    expect(await balanceOf(id)).toBe('0')
  })
})
