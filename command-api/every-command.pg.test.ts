import { randomUUID } from 'node:crypto'
import { waitUntil } from 'local-stack'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rowsWritten, testApi, type Sent, type TestApi } from './test-api.ts'
import { acceptedRequests, type Request } from './test-requests.ts'
import { decodeToken } from './token.ts'

// The rules that hold for every command alike, tried on each.

let api: TestApi
let requests: ReturnType<typeof acceptedRequests>
beforeAll(async () => {
  api = await testApi()
  requests = acceptedRequests(api)
})
afterAll(() => api[Symbol.asyncDispose]())

/** What an accepted one is answered, whether it names a version, and the fields that hold money. */
const commands: Record<string, [status: number, ifMatch: string, ...amounts: string[]]> = {
  OpenAccount: [201, 'none', 'openingDeposit', 'overdraftLimit'],
  Deposit: [201, 'optional', 'amount'],
  Withdraw: [201, 'optional', 'amount'],
  Transfer: [201, 'none', 'amount'],
  PlaceHold: [201, 'optional', 'amount'],
  CaptureHold: [201, 'optional', 'amount'],
  ReleaseHold: [200, 'optional'],
  FreezeAccount: [200, 'optional'],
  UnfreezeAccount: [200, 'optional'],
  ChangeOverdraftLimit: [200, 'required', 'overdraftLimit'],
  ReverseTransaction: [201, 'none'],
  UpdateAccountDetails: [200, 'required'],
  CloseAccount: [200, 'required'],
  ReopenAccount: [200, 'optional'],
  ForceDebit: [201, 'optional', 'amount'],
}

const sentAnew = (sent: Sent, headers: Sent['headers'], body: object = {}): Sent => ({
  ...sent,
  headers: { ...sent.headers, ...headers },
  body: { ...(sent.body as object), ...body },
})

type Response = Awaited<ReturnType<TestApi['send']>>

const said = ({ status, json, headers }: Response) => ({
  status,
  json,
  etag: headers.get('etag'),
  token: headers.get('consistency-token'),
})

/** Ids that are made anew each time, and moments, stand for themselves; money and versions stay. */
const shapeOf = (value: unknown) =>
  JSON.stringify(value)
    .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'an id')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'a moment')

const request = (name: string) => (requests[name] as () => Promise<Request>)()

it('each of them is tried here', () => {
  const names = api.operations.forms.map((form) => form.name).toSorted()
  expect(Object.keys(commands).toSorted()).toEqual(names)
  expect(Object.keys(requests).toSorted()).toEqual(names)
})

describe.each(Object.entries(commands))('%s', (name, [status, ifMatch, ...amounts]) => {
  it('is answered with its state and a token, and repeated exactly under its key', async () => {
    const [path, sent] = await request(name)
    const once = sentAnew(sent, { 'idempotency-key': randomUUID() })
    const first = await api.send(path, once)
    expect(first.status).toBe(status)
    expect(first.headers.get('idempotent-replayed')).toBe(null)
    const accounts = [first.json.account, first.json.from, first.json.to, first.json]
    const versions = accounts.filter((each) => typeof each?.version === 'number')
    expect(decodeToken(first.headers.get('consistency-token') ?? '')).toEqual(
      new Map(versions.map(({ id, version }) => [id, version])),
    )
    const etag = versions.length === 1 ? `"${versions[0].version}"` : null
    expect(first.headers.get('etag')).toBe(etag)
    for (const each of versions) {
      const { ledgerBalance, held, overdraftLimit, available } = each
      expect(BigInt(ledgerBalance) - BigInt(held) + BigInt(overdraftLimit)).toBe(BigInt(available))
    }
    const written = await rowsWritten(api)
    const again = await api.send(path, once)
    expect(said(again)).toEqual(said(first))
    expect(again.headers.get('idempotent-replayed')).toBe('true')
    expect(await rowsWritten(api)).toBe(written)
    const elsewhere = { ...once, method: 'POST', body: { owner: 'Eve', currency: 'EUR' } }
    const other = await api.send('/accounts', elsewhere)
    expect([other.status, other.json.code]).toEqual([422, 'idempotency_key_reused'])
  })

  it('needs a key, and takes no field that it does not know', async () => {
    const [path, sent] = await request(name)
    const before = await rowsWritten(api)
    const keyless = await api.send(path, sentAnew(sent, { 'idempotency-key': null }))
    expect([keyless.status, keyless.json.code]).toEqual([400, 'idempotency_key_missing'])
    const unknown = { balance: '9', version: 9, ledgerBalance: '9' }
    const { status: refused, json } = await api.send(path, sentAnew(sent, {}, unknown))
    expect([refused, json.code]).toEqual([400, 'invalid_request'])
    const pointers = json.errors.map((error: { pointer: string }) => error.pointer)
    expect(pointers.toSorted()).toEqual(['/balance', '/ledgerBalance', '/version'])
    expect(await rowsWritten(api)).toBe(before)
  })

  it.each(amounts)('takes its %s only as a string of minor units', async (field) => {
    const [path, sent] = await request(name)
    const before = await rowsWritten(api)
    const zero = field === 'overdraftLimit' ? [] : ['0']
    for (const bad of ['-100', ...zero, '1e3', 'NaN', '1.5', 100, '007', '1'.repeat(19), '']) {
      const { status: refused, json } = await api.send(path, sentAnew(sent, {}, { [field]: bad }))
      expect([refused, json.code, json.errors[0].pointer]).toEqual([
        400,
        'invalid_request',
        `/${field}`,
      ])
    }
    expect(await rowsWritten(api)).toBe(before)
  })

  it('as a dry run is answered as it then is, and writes nothing', async () => {
    const [path, sent] = await request(name)
    const before = await rowsWritten(api)
    const keyless = sentAnew(sent, { 'idempotency-key': null })
    const dry = await api.send(`${path}?dryRun=true`, keyless)
    expect(await rowsWritten(api)).toBe(before)
    expect(said(dry)).toMatchObject({ status, etag: null, token: null })
    expect(shapeOf((await api.send(path, sent)).json)).toBe(shapeOf(dry.json))
  })

  it(`names a version: ${ifMatch}`, async () => {
    const [path, sent] = await request(name)
    const unnamed = await api.send(`${path}?dryRun=true`, sentAnew(sent, { 'if-match': null }))
    expect(unnamed.status).toBe(ifMatch === 'required' ? 428 : status)
    const before = await rowsWritten(api)
    const stale = await api.send(path, sentAnew(sent, { 'if-match': '"99"' }))
    if (ifMatch === 'none') return expect(stale.status).toBe(status)
    expect(stale).toMatchObject({ status: 412, json: { code: 'version_conflict' } })
    expect(stale.headers.get('etag')).toBe(`"${stale.json.version}"`)
    expect(before.split(' ').slice(0, 6)).toEqual((await rowsWritten(api)).split(' ').slice(0, 6))
    const fresh = sentAnew(sent, { 'if-match': `"${stale.json.version}"` })
    expect((await api.send(path, fresh)).status).toBe(status)
  })

  it('in a batch is answered as it is alone', async () => {
    const [path, sent] = await request(name)
    const { json: dry } = await api.send(`${path}?dryRun=true`, sent)
    const given = path.split('/')
    const parts = api.operations.forms.find((form) => form.name === name)?.path.split('/') ?? []
    const params = parts.flatMap((part, at) =>
      part.startsWith(':') ? [[part.slice(1), given[at]]] : [],
    )
    const { 'if-match': version, ...headers } = sent.headers ?? {}
    const named = { key: randomUUID(), command: name, ...Object.fromEntries(params) }
    const item = { ...named, ...(sent.body as object), ...(version ? { ifMatch: version } : {}) }
    const body = { atomic: true, commands: [item] }
    const { json } = await api.send('/batches', { headers, body })
    expect(json.items[0].status).toBe(status)
    expect(shapeOf(json.items[0].body)).toBe(shapeOf(dry))
  })

  it('whose caller does not wait has the same outcome at its operation', async () => {
    const [path, sent] = await request(name)
    const { json: dry } = await api.send(`${path}?dryRun=true`, sent)
    const trace = { 'correlation-id': randomUUID(), prefer: 'respond-async' }
    const taken = await api.send(path, sentAnew(sent, trace))
    expect(taken.status).toBe(202)
    const headers = { authorization: sent.headers?.['authorization'] ?? 'Bearer the-key' }
    const look = () => api.send(taken.headers.get('location') ?? '', { method: 'GET', headers })
    const done = await waitUntil(
      async () => {
        const found = await look()
        return found.json.status === 'done' && found
      },
      { what: 'the operation' },
    )
    expect(done.json).toMatchObject({ command: name, answer: { status } })
    expect(shapeOf(done.json.answer.body)).toBe(shapeOf(dry))
    const { rows } = await api.pool.query(
      'select causationid from ledger.account_events where correlationid = $1',
      [trace['correlation-id']],
    )
    expect(rows.length).toBeGreaterThan(0)
    expect(new Set(rows.map((row) => row.causationid)).size).toBe(1)
  })
})
