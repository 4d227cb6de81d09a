import { randomUUID } from 'node:crypto'
import { waitUntil } from 'local-stack'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { lockNumber } from './ledger.ts'
import { acceptOperation, resumeOperations } from './operations.ts'
import { testApi, type Sent, type TestApi } from './test-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await testApi()
})
afterAll(() => api[Symbol.asyncDispose]())

const later = (path: string, { headers, ...sent }: Sent) =>
  api.send(path, { ...sent, headers: { prefer: 'respond-async', ...headers } })
const look = (location: string, headers: Sent['headers'] = {}) =>
  api.send(location, { method: 'GET', headers })
const eur = (amount: string) => ({ amount, currency: 'EUR' })

const done = (location: string) =>
  waitUntil(
    async () => {
      const found = await look(location)
      return found.json.status === 'done' && found
    },
    { what: 'the operation to be done' },
  )

describe('a command whose caller does not wait', () => {
  it('has a row that says it is being worked on before the 202 leaves', async () => {
    const { id } = await api.opened()
    const key = randomUUID()
    await using blocker = await lockOf(key)
    const taken = await later(`/accounts/${id}/deposits`, {
      body: eur('5'),
      headers: { 'idempotency-key': key },
    })
    expect(taken.status).toBe(202)
    const location = taken.headers.get('location') ?? ''
    expect(location).toBe(`/operations/${taken.json.id}`)
    expect((await look(location)).json).toEqual({
      id: taken.json.id,
      command: 'Deposit',
      requestedAt: expect.stringMatching(/Z$/),
      status: 'processing',
      answer: null,
    })
    await blocker.end()
    const found = await done(location)
    expect(found.json.answer).toMatchObject({
      status: 201,
      etag: '"2"',
      body: { account: { id, ledgerBalance: '5' } },
    })
    expect(found.headers.get('consistency-token')).toBe(found.json.answer.token)
  })

  it('is told its refusal there, and nobody else finds it', async () => {
    const { id } = await api.opened()
    const taken = await later(`/accounts/${id}/withdrawals`, { body: eur('5') })
    const location = taken.headers.get('location') ?? ''
    const found = await done(location)
    expect(found.json.answer).toMatchObject({
      status: 409,
      body: { code: 'insufficient_funds' },
    })
    const stranger = await look(location, { authorization: 'Bearer the-operator' })
    expect([stranger.status, stranger.json.code]).toEqual([404, 'operation_not_found'])
    expect((await look(`/operations/${randomUUID()}`)).status).toBe(404)
    expect((await look('/operations/none')).status).toBe(400)
  })

  it('sent again is the same operation, and with another request under the key is refused', async () => {
    const { id } = await api.opened()
    const headers = { 'idempotency-key': randomUUID() }
    const path = `/accounts/${id}/deposits`
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => later(path, { headers, body: eur('5') })),
    )
    expect(answers.map(({ status }) => status)).toEqual([202, 202, 202, 202, 202])
    const locations = answers.flatMap((each) => each.headers.get('location') ?? [])
    expect(new Set(locations).size).toBe(1)
    const found = await done(locations[0] ?? '')
    expect(found.json.answer.body.account.ledgerBalance).toBe('5')
    const waited = await api.send(path, { headers, body: eur('5') })
    expect(waited.headers.get('idempotent-replayed')).toBe('true')
    expect(waited.json).toEqual(found.json.answer.body)
    const other = await later(path, { headers, body: eur('6') })
    expect([other.status, other.json.code]).toEqual([422, 'idempotency_key_reused'])
  })

  it('under a key that was used for another request is told so', async () => {
    const { id } = await api.opened()
    const headers = { 'idempotency-key': randomUUID() }
    await api.send(`/accounts/${id}/deposits`, { headers, body: eur('5') })
    const taken = await later(`/accounts/${id}/deposits`, { headers, body: eur('6') })
    const found = await done(taken.headers.get('location') ?? '')
    expect(found.json.answer).toMatchObject({
      status: 422,
      body: { code: 'idempotency_key_reused' },
    })
  })

  it('that is not as its schema says is refused at once, and a dry run is answered', async () => {
    const { id } = await api.opened()
    const path = `/accounts/${id}/deposits`
    expect((await later(path, { body: eur('-5') })).status).toBe(400)
    expect((await later(`${path}?dryRun=true`, { body: eur('5') })).status).toBe(201)
  })

  it('is finished by whoever finds it, when the process that took it has died', async () => {
    const { id } = await api.opened('10')
    const body = { amount: '4', expiresInSeconds: 60 }
    const form = api.operations.forms.find((each) => each.name === 'PlaceHold')
    const asked = { command: 'PlaceHold', params: { accountId: id }, said: body }
    const { command } = form!.read({ params: asked.params, body }, api.operations.birth)
    const dead = { ...api.operations, execute: () => new Promise<never>(() => {}) }
    const { headers } = await acceptOperation(
      dead,
      {
        caller: 'tester',
        key: randomUUID(),
        fingerprint: Buffer.from('f'),
        commandId: randomUUID(),
        command,
        ifMatch: new Set(['"2"']),
        trace: {
          traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
          traceId: 'a',
          correlationId: 'c',
        },
        dryRun: false,
      },
      asked,
    )
    const location = headers?.['Location'] ?? ''
    await resumeOperations(api.operations)
    expect((await look(location)).json.status).toBe('processing')
    const muchLater = { now: () => new Date(Date.now() + 60_000), newId: randomUUID }
    await Promise.all([1, 2].map(() => resumeOperations({ ...api.operations, birth: muchLater })))
    const found = await look(location)
    expect(found.json).toMatchObject({
      status: 'done',
      answer: { status: 201, body: { hold: { status: 'active' }, account: { held: '4' } } },
    })
    await resumeOperations(api.operations)
    const { rows } = await api.pool.query('select pending from ledger.operations where id = $1', [
      found.json.id,
    ])
    expect(rows).toEqual([{ pending: false }])
  })

  it('that meets a bug ends with a 500, and is not tried for ever', async () => {
    const { id } = await api.opened()
    const faulty = { ...api.operations, execute: () => Promise.reject(new Error('a bug')) }
    const { headers } = await acceptOperation(
      faulty,
      {
        caller: 'tester',
        key: randomUUID(),
        fingerprint: Buffer.from('f'),
        commandId: randomUUID(),
        command: { kind: 'ReopenAccount', accountId: id, transactionId: randomUUID(), at: '' },
        ifMatch: undefined,
        trace: { traceparent: '', traceId: 'a', correlationId: 'c' },
        dryRun: false,
      },
      { command: 'ReopenAccount', params: { accountId: id }, said: {} },
    )
    const found = await done(headers?.['Location'] ?? '')
    expect(found.json.answer).toMatchObject({ status: 500, body: { code: 'internal_error' } })
  })
})

/** Holds a key's lock, as a command under it that is still running does. */
async function lockOf(key: string) {
  const client = new Client({ connectionString: api.databases.write() })
  await client.connect()
  const number = lockNumber({ caller: 'tester', key })
  await client.query(`begin; select pg_advisory_xact_lock(${number})`)
  let ended = false
  const end = async () => {
    if (!ended) await client.end()
    ended = true
  }
  return { end, [Symbol.asyncDispose]: end }
}
