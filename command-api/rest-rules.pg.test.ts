import { randomUUID } from 'node:crypto'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { lockNumber } from './ledger.ts'
import { rowsWritten, testApi, type Sent, type TestApi } from './test-api.ts'
import { asOperator } from './test-requests.ts'

// Rules of the interface that need a situation of their own; those that hold for every command alike
// are in every-command.pg.test.ts, those of bad input in http.pg.test.ts.

let api: TestApi
let admin: Client
beforeAll(async () => {
  api = await testApi()
  admin = new Client({ connectionString: api.databases.write() })
  await admin.connect()
})
afterAll(async () => {
  await admin.end()
  await api[Symbol.asyncDispose]()
})

const eur = (amount: string, more: object = {}): Sent => ({
  body: { amount, currency: 'EUR', ...more },
})

describe('a key', () => {
  it('held by a request that goes on is answered 409 after 5 s, with when to come again', async () => {
    const { id } = await api.opened()
    const key = randomUUID()
    const number = lockNumber({ caller: 'tester', key })
    await admin.query(`begin; select pg_advisory_xact_lock(${number})`)
    const sent = { ...eur('5'), headers: { 'idempotency-key': key } }
    const begunMs = performance.now()
    const answer = await api.send(`/accounts/${id}/deposits`, sent)
    await admin.query('commit')
    expect(performance.now() - begunMs).toBeGreaterThan(4_900)
    expect([answer.status, answer.json.code]).toEqual([409, 'idempotency_in_progress'])
    expect(answer.headers.get('retry-after')).toBe('1')
    // It was no answer of the key's: the next one is.
    const next = await api.send(`/accounts/${id}/deposits`, sent)
    expect([next.status, next.headers.get('idempotent-replayed')]).toEqual([201, null])
  })

  it('is its caller’s own: two callers under one key are two commands', async () => {
    const { id } = await api.opened()
    const key = { 'idempotency-key': randomUUID() }
    const path = `/accounts/${id}/deposits`
    const mine = await api.send(path, { ...eur('5'), headers: key })
    const theirs = await api.send(path, { ...eur('6'), headers: { ...key, ...asOperator } })
    expect([mine.status, theirs.status]).toEqual([201, 201])
    expect(theirs.json.account.ledgerBalance).toBe('11')
  })

  it('stands for method, path and what the body says: spelt otherwise it is the same request', async () => {
    const { id } = await api.opened()
    const headers = { 'idempotency-key': randomUUID() }
    const [path, other] = [`/accounts/${id}/deposits`, `/accounts/${id}/withdrawals`]
    const first = await api.send(path, { headers, body: '{"amount":"5","currency":"EUR"}' })
    const respelt = await api.send(path, {
      headers,
      body: '{ "currency": "EUR",\n "amount": "\\u0035" }',
    })
    expect(respelt.headers.get('idempotent-replayed')).toBe('true')
    expect(respelt.json).toEqual(first.json)
    const elsewhere = await api.send(other, { ...eur('5'), headers })
    expect([elsewhere.status, elsewhere.json.code]).toEqual([422, 'idempotency_key_reused'])
  })

  it('of a request that was not understood is still free', async () => {
    const { id } = await api.opened()
    const headers = { 'idempotency-key': randomUUID() }
    const path = `/accounts/${id}/deposits`
    expect((await api.send(path, { ...eur('-5'), headers })).status).toBe(400)
    expect((await api.send(path, { ...eur('5'), headers })).status).toBe(201)
  })
})

describe('a fault', () => {
  it('is a 500 that shows nothing of itself, keeps nothing, and may be sent again', async () => {
    const { id } = await api.opened('10')
    const headers = { 'idempotency-key': randomUUID() }
    const place = () => api.send(`/accounts/${id}/holds`, { headers, body: { amount: '5' } })
    await admin.query('revoke insert on ledger.holds from sluice_command')
    const faulty = await place()
    await admin.query('grant insert on ledger.holds to sluice_command')
    expect(faulty.type).toBe('application/problem+json')
    expect(faulty.json).toEqual({
      type: 'urn:sluice:problem:internal_error',
      title: 'The server failed; nothing about why is shown here',
      status: 500,
      code: 'internal_error',
      traceId: expect.stringMatching(/^[0-9a-f]{32}$/),
    })
    const again = await place()
    expect([again.status, again.json.account.version]).toEqual([201, 3])
  })
})

describe('the two clocks', () => {
  it('when it took effect is as the caller says, when it was recorded is ours', async () => {
    const { id } = await api.opened()
    const effectiveAt = '2020-02-29T23:30:00+01:00'
    const { json } = await api.send(`/accounts/${id}/deposits`, eur('5', { effectiveAt }))
    const { rows } = await api.pool.query(
      `select e.payload ->> 'effectiveAt' as said, l.effective_at, l.recorded_at = e.occurred_at as same,
         e.occurred_at > now() - interval '1 minute' as recorded_now
       from ledger.account_events e join ledger.entries l using (account_id)
       where transaction_id = $1 and version = account_version`,
      [json.transactionId],
    )
    const utc = '2020-02-29T22:30:00.000Z'
    expect(rows).toEqual([
      { said: utc, effective_at: new Date(utc), same: true, recorded_now: true },
    ])
  })

  it('are the same where the caller says nothing', async () => {
    const { id } = await api.opened()
    await api.send(`/accounts/${id}/deposits`, eur('5'))
    const { rows } = await api.pool.query(
      'select effective_at = recorded_at as same from ledger.entries where account_id = $1',
      [id],
    )
    expect(rows).toEqual([{ same: true }])
  })
})

describe('what went wrong is put right by more entries, never by fewer', () => {
  it('a wrong transfer, moved back and made again, is three transactions that link up', async () => {
    const [a, b] = [await api.opened('100'), await api.opened()]
    const pay = (amount: string) =>
      api.send('/transfers', { body: { from: a.id, to: b.id, amount, reference: 'rent' } })
    const wrong = (await pay('70')).json
    const undone = (await api.send(`/transactions/${wrong.transactionId}/reversal`)).json
    const right = (await pay('7')).json
    expect([right.from.ledgerBalance, right.to.ledgerBalance]).toEqual(['93', '7'])
    const { rows } = await api.pool.query(
      `select type, payload ->> 'transactionId' as transaction,
         payload ->> 'reversedTransactionId' as reversed
       from ledger.account_events where account_id = $1 order by version`,
      [b.id],
    )
    expect(rows.slice(1)).toEqual([
      { type: 'FundsTransferredIn.v1', transaction: wrong.transactionId, reversed: null },
      {
        type: 'TransactionReversed.v1',
        transaction: undone.transactionId,
        reversed: wrong.transactionId,
      },
      { type: 'FundsTransferredIn.v1', transaction: right.transactionId, reversed: null },
    ])
    const again = await api.send(`/transactions/${undone.transactionId}/reversal`)
    expect(again.json.code).toBe('not_reversible')
  })

  it('a forced debit is moved back as any other, and leaves what was available before', async () => {
    const { id } = await api.opened('10')
    const taken = await api.send(`/accounts/${id}/force-debits`, {
      headers: asOperator,
      body: { amount: '60', reason: 'a fee' },
    })
    expect(taken.json.account).toMatchObject({ ledgerBalance: '-50', available: '-50' })
    const back = await api.send(`/transactions/${taken.json.transactionId}/reversal`)
    expect(back.json.account).toMatchObject({ ledgerBalance: '10', available: '10' })
  })

  it('what is below its limit by force takes money, and gives none', async () => {
    const { id } = await api.opened()
    const path = `/accounts/${id}`
    await api.send(`${path}/force-debits`, {
      headers: asOperator,
      body: { amount: '60', reason: 'a fee' },
    })
    const { json } = await api.send(`${path}/withdrawals`, eur('1'))
    expect(json).toMatchObject({ code: 'insufficient_funds', available: '-60', requested: '1' })
    const paid = await api.send(`${path}/deposits`, eur('10'))
    expect(paid.json.account).toMatchObject({ ledgerBalance: '-50', available: '-50' })
  })

  it('a capture of more than was held is refused, and the hold stays', async () => {
    const { id } = await api.opened('10')
    const { json } = await api.send(`/accounts/${id}/holds`, { body: { amount: '5' } })
    const hold = `/accounts/${id}/holds/${json.hold.id}/capture`
    const refused = await api.send(hold, { body: { amount: '6' } })
    expect(refused.json).toMatchObject({
      status: 409,
      code: 'exceeds_held_amount',
      held: '5',
      requested: '6',
    })
    expect((await api.send(hold)).json.hold.status).toBe('captured')
  })
})

describe('a forced debit', () => {
  it.each([
    ['', {}],
    ['?dryRun=true', {}],
    ['', { prefer: 'respond-async' }],
  ])('is the operator’s alone, in whatever way it is asked for: %s %j', async (query, headers) => {
    const { id } = await api.opened('10')
    const before = await rowsWritten(api)
    for (const authorization of ['Bearer the-key', 'Bearer the-customer']) {
      const { status, json } = await api.send(`/accounts/${id}/force-debits${query}`, {
        headers: { ...headers, authorization },
        body: { amount: '1', reason: 'a fee' },
      })
      expect([status, json.code]).toEqual([403, 'not_allowed'])
    }
    expect(await rowsWritten(api)).toBe(before)
  })
})

describe('what a request says of itself', () => {
  const traced = async (headers: Record<string, string>) => {
    const body = { owner: 'Ada', currency: 'EUR' }
    const { status, json } = await api.send('/accounts', { headers, body })
    const text =
      'select traceparent, correlationid from ledger.account_events where account_id = $1'
    return { status, json, recorded: (await api.pool.query(text, [json.id])).rows[0] }
  }

  it.each([
    'nothing of the kind',
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `00-0af7651916cd43dd8448eb211c80319c-${'0'.repeat(16)}-01`,
    `ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`,
    `00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01`,
    `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more`,
  ])('is traced anew where the trace is malformed: %s', async (traceparent) => {
    const { recorded } = await traced({ traceparent })
    expect(recorded.traceparent).toMatch(/^00-(?!0af765)[0-9a-f]{32}-[0-9a-f]{16}-01$/)
  })

  it('is a Correlation-Id of at most 128 plain characters, or it is refused', async () => {
    const longest = 'x'.repeat(128)
    expect((await traced({ 'correlation-id': longest })).recorded.correlationid).toBe(longest)
    for (const bad of [`${longest}x`, 'a b', 'a"b', 'a,b', 'é', '']) {
      const { status, json } = await traced({ 'correlation-id': bad })
      expect([status, json.code, json.errors[0].pointer]).toEqual([
        400,
        'invalid_header',
        'Correlation-Id',
      ])
    }
  })

  it('names nothing of Kafka’s: such headers change no event', async () => {
    const named = { id: randomUUID(), ce_type: 'Heartbeat.v1', ce_sequence: '99', ce_id: 'mine' }
    const { json } = await traced(named)
    const text = 'select id, type, aggregateversion::int from outbox.events where aggregateid = $1'
    const { rows } = await admin.query(text, [json.id])
    expect(rows).toMatchObject([{ type: 'AccountOpened.v1', aggregateversion: 1 }])
    expect(rows[0].id).not.toBe(named.id)
  })
})

describe('an unknown account', () => {
  it.each([
    'deposits',
    'withdrawals',
    'holds',
    'force-debits',
    'freeze',
    'unfreeze',
    'close',
    'reopen',
  ])('is a 404 to %s', async (path) => {
    const bodies: Record<string, object> = {
      freeze: { scope: 'all', reason: 'a court' },
      'force-debits': { amount: '5', reason: 'a fee' },
      deposits: { amount: '5', currency: 'EUR' },
      withdrawals: { amount: '5', currency: 'EUR' },
      holds: { amount: '5' },
    }
    const headers = { ...asOperator, 'if-match': '"1"' }
    const { status, json } = await api.send(`/accounts/nobody/${path}`, {
      headers,
      body: bodies[path] ?? {},
    })
    expect([status, json.code]).toEqual([404, 'account_not_found'])
  })

  it.each<[string, string, object]>([
    ['PUT', '/accounts/nobody/overdraft-limit', { overdraftLimit: '1' }],
    ['PATCH', '/accounts/nobody', { owner: 'Eve' }],
    ['POST', '/transfers', { from: 'nobody', to: 'nobody-else', amount: '1' }],
  ])('is a 404 to %s %s', async (method, path, body) => {
    const answer = await api.send(path, { method, headers: { 'if-match': '"1"' }, body })
    expect([answer.status, answer.json.code]).toEqual([404, 'account_not_found'])
  })
})
