import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rowsWritten, testApi, type Sent, type TestApi } from './test-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await testApi()
})
afterAll(() => api[Symbol.asyncDispose]())

const send: TestApi['send'] = (path, sent) => api.send(path, sent)

describe('commands over REST', () => {
  it('open, deposit, withdraw and close answer with the account, its ETag and a token', async () => {
    const open = await send('/accounts', {
      body: { id: 'acc-rest', owner: 'Ada', currency: 'JPY', openingDeposit: '1000' },
    })
    expect(open.status).toBe(201)
    expect(open.json).toEqual({
      id: 'acc-rest',
      owner: 'Ada',
      currency: 'JPY',
      exponent: 0,
      type: 'current',
      status: 'open',
      freeze: null,
      ledgerBalance: '1000',
      held: '0',
      available: '1000',
      overdraftLimit: '0',
      metadata: {},
      version: 2,
      openedAt: expect.stringMatching(/Z$/),
      asOf: expect.stringMatching(/Z$/),
    })
    const deposit = await send('/accounts/acc-rest/deposits', {
      body: { amount: '250', currency: 'JPY', reference: 'salary' },
      headers: { 'if-match': '"2"' },
    })
    expect(deposit.status).toBe(201)
    expect(deposit.headers.get('etag')).toBe('"3"')
    expect(deposit.headers.get('consistency-token')).toMatch(/^v1\./)
    expect(deposit.json.account.ledgerBalance).toBe('1250')
    const withdrawal = await send('/accounts/acc-rest/withdrawals', {
      body: { amount: '1250', currency: 'JPY' },
    })
    expect(withdrawal.json).toMatchObject({
      transactionId: expect.any(String),
      account: { ledgerBalance: '0', version: 4 },
    })
    const close = await send('/accounts/acc-rest/close', { headers: { 'if-match': '"4"' } })
    expect([close.status, close.json.status]).toEqual([200, 'closed'])
  })

  it('repeat their first answer, refusals included, under the same key', async () => {
    const { id } = await api.opened('10')
    const path = `/accounts/${id}/withdrawals`
    const headers = { 'idempotency-key': 'again' }
    const first = await send(path, { headers, body: { amount: '11', currency: 'EUR' } })
    const second = await send(path, { headers, body: { currency: 'EUR', amount: '11' } })
    expect([first.status, first.headers.get('idempotent-replayed')]).toEqual([409, null])
    expect([second.status, second.headers.get('idempotent-replayed')]).toEqual([409, 'true'])
    expect(second.json).toEqual(first.json)
    const other = await send(path, { headers, body: { amount: '1', currency: 'EUR' } })
    expect([other.status, other.json.code]).toEqual([422, 'idempotency_key_reused'])
  })

  it('answer 412 with the present version to a stale If-Match', async () => {
    const { id } = await api.opened('10')
    const stale = await send(`/accounts/${id}/deposits`, {
      body: { amount: '1', currency: 'EUR' },
      headers: { 'if-match': '"1"' },
    })
    expect(stale).toMatchObject({ status: 412, json: { code: 'version_conflict', version: 2 } })
    expect(stale.headers.get('etag')).toBe('"2"')
  })
})

const open = { owner: 'Ada', currency: 'EUR' }
const move = { amount: '5', currency: 'EUR' }
const amounts = ['-100', '0', '1e3', 'NaN', '1.5', '01', '', '1234567890123456789', 5, null, [], {}]
const badAmounts = amounts.map(
  (amount) =>
    [400, 'invalid_request', '/accounts/x/deposits', { body: { ...move, amount } }] as const,
)

type Bad = readonly [status: number, code: string, path: string, sent: Sent]

describe('bad input', () => {
  it.each<Bad>([
    ...badAmounts,
    [400, 'malformed_json', '/accounts', { body: '{"owner":' }],
    [400, 'malformed_json', '/accounts', { body: "{'owner':'Ada'}" }],
    [400, 'malformed_json', '/accounts', { body: '{"owner":"A","currency":"EUR","owner":"B"}' }],
    [400, 'invalid_request', '/accounts', {}],
    [400, 'invalid_request', '/accounts', { body: 'null' }],
    [400, 'invalid_request', '/accounts', { body: '"text"' }],
    [400, 'invalid_request', '/accounts', { body: [open] }],
    [400, 'invalid_request', '/accounts', { body: { currency: 'EUR' } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, owner: 7 } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, owner: '' } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, owner: 'a\u0000b' } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, owner: 'a\ud800' } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, owner: 'x'.repeat(201) } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, balance: '5' } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, version: 5 } }],
    [
      400,
      'invalid_request',
      '/accounts',
      { body: '{"owner":"A","currency":"EUR","__proto__":{}}' },
    ],
    [400, 'invalid_request', '/accounts', { body: { ...open, currency: 'eur' } }],
    [409, 'unsupported_currency', '/accounts', { body: { ...open, currency: 'QQQ' } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, id: 'sluice-cash-EUR' } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, id: 'a b' } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, id: 'x'.repeat(65) } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, overdraftLimit: '-1' } }],
    [400, 'invalid_request', '/accounts', { body: { ...open, type: 'gold' } }],
    [400, 'invalid_request', '/accounts?dryRun=yes', { body: open }],
    [400, 'invalid_request', '/accounts?dry=true', { body: open }],
    [400, 'invalid_request', '/accounts/x/deposits', { body: { ...move, effectiveAt: 'today' } }],
    ...['0000-01-01T00:00:00Z', '9999-12-31T23:59:59-23:59', '0001-01-01T00:00:00+23:59'].map(
      (effectiveAt): Bad => [
        400,
        'invalid_request',
        '/accounts/x/deposits',
        { body: { ...move, effectiveAt } },
      ],
    ),
    [404, 'route_not_found', '/accounts/x/deposits/', { body: move }],
    [400, 'invalid_request', '/accounts/x/deposits', { body: { ...move, version: 9 } }],
    [400, 'invalid_request', '/accounts/sluice-cash-EUR/deposits', { body: move }],
    [400, 'invalid_request', '/accounts/a%20b/deposits', { body: move }],
    [400, 'malformed_request', '/accounts/%E0%A4%A/deposits', { body: move }],
    [404, 'account_not_found', '/accounts/nobody/deposits', { body: move }],
    [404, 'route_not_found', '/accounts/x/y', { body: move }],
    [404, 'route_not_found', '/Accounts', { body: open }],
    [405, 'method_not_allowed', '/accounts', { method: 'PUT', body: open }],
    [405, 'method_not_allowed', '/accounts/x/close', { method: 'GET' }],
    [
      400,
      'idempotency_key_missing',
      '/accounts',
      { body: open, headers: { 'idempotency-key': null } },
    ],
    [400, 'invalid_header', '/accounts', { body: open, headers: { 'idempotency-key': 'a b' } }],
    [
      400,
      'invalid_header',
      '/accounts',
      { body: open, headers: { 'idempotency-key': 'x'.repeat(256) } },
    ],
    [400, 'invalid_header', '/accounts', { body: open, headers: { 'correlation-id': 'a b' } }],
    [400, 'invalid_header', '/accounts/x/deposits', { body: move, headers: { 'if-match': '1' } }],
    [428, 'precondition_required', '/accounts/x/close', {}],
    [401, 'unauthenticated', '/accounts', { body: open, headers: { authorization: null } }],
    [401, 'unauthenticated', '/accounts', { body: open, headers: { authorization: 'Bearer no' } }],
    [401, 'unauthenticated', '/accounts', { body: open, headers: { authorization: 'Basic x' } }],
    [401, 'unauthenticated', '/feed/events', { method: 'GET', headers: { authorization: null } }],
    [
      415,
      'unsupported_media_type',
      '/accounts',
      { body: 'a', headers: { 'content-type': 'text/plain' } },
    ],
    [
      415,
      'unsupported_media_type',
      '/accounts',
      { body: open, headers: { 'content-type': 'application/json; charset=latin1' } },
    ],
    [413, 'body_too_large', '/accounts', { body: { ...open, owner: 'x'.repeat(1_000_000) } }],
    [400, 'invalid_request', `/accounts`, { body: '['.repeat(30_000) + ']'.repeat(30_000) }],
    [400, 'invalid_cursor', '/feed/events?after=zzz', { method: 'GET' }],
    [400, 'invalid_request', '/feed/events?limit=0', { method: 'GET' }],
    [400, 'invalid_request', '/feed/events?limit=1&limit=2', { method: 'GET' }],
  ])('%i %s: %s %j', async (status, code, path, sent) => {
    const before = await rowsWritten(api)
    const answer = await send(path, sent)
    expect([answer.status, answer.json.code]).toEqual([status, code])
    expect(answer.type).toBe('application/problem+json')
    expect(answer.json).toMatchObject({ status, title: expect.any(String) })
    expect(answer.json.type).toBe(`urn:sluice:problem:${code}`)
    expect(answer.json.traceId).toMatch(/^[0-9a-f]{32}$/)
    // A refusal that was decided keeps its answer under its key, and nothing else.
    const decided = status === 409 || code === 'account_not_found'
    const counts = before.split(' ')
    const answers = counts.length - 2
    counts[answers] = String(Number(counts[answers]) + (decided ? 1 : 0))
    expect(await rowsWritten(api)).toBe(counts.join(' '))
  })

  it('points at each field at fault', async () => {
    const { json } = await send('/accounts', { body: { owner: '', currency: 'EUR', 'a/b': 1 } })
    const pointers = json.errors.map((error: { pointer: string }) => error.pointer)
    expect(pointers.toSorted()).toEqual(['/a~1b', '/owner'])
  })

  it.each([
    ['NONSENSE\r\n\r\n', 400, 'malformed_request'],
    ['GET http://[::zz/ HTTP/1.1\r\nHost: x\r\n\r\n', 400, 'malformed_request'],
    ['GET /livez HTTP/1.1\r\nHost: x\r\nExpect: foo\r\n\r\n', 417, 'expectation_failed'],
    ['GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n', 404, 'route_not_found'],
    [
      `GET /livez HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
      431,
      'headers_too_large',
    ],
  ])('%j, which comes to no route, is answered in the same form', async (sent, status, code) => {
    const socket = connect(api.http.port, '127.0.0.1')
    socket.write(sent)
    const chunks: Buffer[] = []
    for await (const chunk of socket) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString()
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    expect(text).toContain('application/problem+json')
    expect(text).toContain(`"code":"${code}"`)
  })

  it('a weak or foreign If-Match matches no version, and one of several may match', async () => {
    const { id } = await api.opened('10')
    const tried = async (ifMatch: string) => {
      const headers = { 'if-match': ifMatch }
      const answer = await send(`/accounts/${id}/deposits`, { body: move, headers })
      return answer.status
    }
    expect(await tried('W/"2"')).toBe(412)
    expect(await tried('"abc"')).toBe(412)
    expect(await tried('"1", "2"')).toBe(201)
    expect(await tried('*')).toBe(201)
  })
})

describe('the shell of the service', () => {
  it('answers its health and metrics to anybody', async () => {
    for (const path of ['/livez', '/readyz']) {
      const answer = await send(path, { method: 'GET', headers: { authorization: null } })
      expect(answer.status).toBe(200)
    }
    const metrics = await fetch(`${api.http.url}/metrics`)
    expect(await metrics.text()).toContain('sluice_http_request_seconds_bucket')
  })

  it('passes a given trace on to the event, and makes one where none was given', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    const headers = { traceparent, 'correlation-id': 'order-17' }
    const traced = await send('/accounts', { body: open, headers })
    const untraced = await send('/accounts', { body: open })
    expect(traced.headers.get('correlation-id')).toBe('order-17')
    const recorded = async (id: string) =>
      (await api.pool.query('select * from ledger.account_events where account_id = $1', [id]))
        .rows[0]
    expect(await recorded(traced.json.id)).toMatchObject({ traceparent, correlationid: 'order-17' })
    expect((await recorded(untraced.json.id)).traceparent).toMatch(/^00-[0-9a-f]{32}-/)
  })
})
