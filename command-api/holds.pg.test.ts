import { randomUUID } from 'node:crypto'
import { waitUntil } from 'local-stack'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expireHolds } from './expiry.ts'
import { birth } from './form.ts'
import { testApi, type TestApi } from './test-api.ts'
import { oneAtATime, startTimer } from './timer.ts'

let api: TestApi
beforeAll(async () => {
  api = await testApi()
})
afterAll(() => api[Symbol.asyncDispose]())

async function held(amount = '6', fields: object = {}) {
  const { id } = await api.opened('10')
  const path = `/accounts/${id}/holds`
  const placed = await api.send(path, { body: { amount, ...fields } })
  return { id, placed, hold: `${path}/${placed.json.hold.id}` }
}

/** As if the time of every hold of an account had come. */
const makeDue = (id: string) =>
  api.pool.query(
    `update ledger.holds set expires_at = now() - interval '1 second' where account_id = $1`,
    [id],
  )

const stateOf = async (id: string) =>
  (
    await api.pool.query(
      `select a.held, ledger_balance as balance, version::int, h.status
       from ledger.accounts a left join ledger.holds h on h.account_id = a.id where a.id = $1`,
      [id],
    )
  ).rows[0]

const expire = () => expireHolds(api.pool, api.operations.execute, birth)

describe('a hold over REST', () => {
  it('is placed, and what it holds is no longer available', async () => {
    const { id, placed } = await held('6', { expiresInSeconds: 60, reference: 'hotel' })
    expect(placed.status).toBe(201)
    expect(placed.json).toEqual({
      hold: {
        id: expect.stringMatching(/^[0-9a-f-]{36}$/),
        amount: '6',
        expiresAt: expect.stringMatching(/Z$/),
        status: 'active',
      },
      account: expect.objectContaining({ id, ledgerBalance: '10', held: '6', available: '4' }),
    })
    const soon = new Date(placed.json.hold.expiresAt).getTime() - Date.now()
    expect(soon).toBeGreaterThan(30_000)
    expect(soon).toBeLessThan(61_000)
    expect(placed.headers.get('etag')).toBe('"3"')
  })

  it('is captured in part: the rest is available again', async () => {
    const { hold } = await held()
    const captured = await api.send(`${hold}/capture`, { body: { amount: '2' } })
    expect(captured.status).toBe(201)
    expect(captured.json).toMatchObject({
      transactionId: expect.any(String),
      hold: { amount: '6', status: 'captured' },
      account: { ledgerBalance: '8', held: '0', available: '8' },
    })
  })

  it('is captured whole without a body, and released without a movement', async () => {
    const captured = await api.send(`${(await held()).hold}/capture`)
    expect(captured.json.account).toMatchObject({ ledgerBalance: '4', held: '0' })
    const released = await api.send(`${(await held()).hold}/release`)
    expect(released.status).toBe(200)
    expect(released.json).toMatchObject({
      hold: { status: 'released' },
      account: { ledgerBalance: '10', held: '0' },
    })
  })

  it.each([
    [400, 'invalid_request', { amount: '1', expiresInSeconds: 0 }],
    [400, 'invalid_request', { amount: '1', expiresInSeconds: '60' }],
    [400, 'invalid_request', { amount: '1', expiresInSeconds: 1e9 }],
    [400, 'invalid_request', { amount: '1', held: '5' }],
    [409, 'currency_mismatch', { amount: '1', currency: 'USD' }],
    [409, 'insufficient_funds', { amount: '11' }],
  ])('is refused: %i %s %j', async (status, code, body) => {
    const { id } = await api.opened('10')
    const answer = await api.send(`/accounts/${id}/holds`, { body })
    expect([answer.status, answer.json.code]).toEqual([status, code])
  })

  it.each(['capture', 'release'])('that is not there is no hold to %s', async (end) => {
    const { id, hold } = await held()
    const unknown = await api.send(`/accounts/${id}/holds/${randomUUID()}/${end}`)
    expect([unknown.status, unknown.json.code]).toEqual([404, 'hold_not_found'])
    const other = await api.opened()
    const elsewhere = await api.send(`${hold.replace(id, other.id)}/${end}`)
    expect([elsewhere.status, elsewhere.json.code]).toEqual([404, 'hold_not_found'])
    const noId = await api.send(`/accounts/${id}/holds/none/${end}`)
    expect(noId.status).toBe(400)
  })

  it('ends once, whoever asks at the same moment', async () => {
    for (let round = 0; round < 5; round += 1) {
      const { id, hold } = await held()
      const ends = ['capture', 'release', 'capture', 'release'].map((end) =>
        api.send(`${hold}/${end}`),
      )
      const answers = await Promise.all(ends)
      expect(answers.filter(({ status }) => status < 300)).toHaveLength(1)
      for (const { status, json } of answers) {
        if (status >= 300) expect(json).toMatchObject({ status: 409, code: 'hold_not_active' })
      }
      expect(await stateOf(id)).toMatchObject({ held: '0', version: 4 })
    }
  })
})

describe('the expiry of holds', () => {
  it('frees what was held, by a command of its own key, once', async () => {
    const { id, placed } = await held()
    await expire()
    expect(await stateOf(id)).toMatchObject({ held: '6', status: 'active' })
    await makeDue(id)
    await Promise.all([expire(), expire(), expire()])
    expect(await stateOf(id)).toEqual({ held: '0', balance: '10', version: 4, status: 'expired' })
    const { rows } = await api.pool.query(
      `select status from ledger.idempotency where key = $1 and caller = 'sluice:timer'`,
      [`expire-${placed.json.hold.id}`],
    )
    expect(rows).toEqual([{ status: 200 }])
  })

  it('leaves one end to a hold that is captured at that moment', async () => {
    const ended: string[] = []
    for (let round = 0; round < 8; round += 1) {
      const { id, hold } = await held()
      await makeDue(id)
      const [captured] = await Promise.all([api.send(`${hold}/capture`), expire()])
      // Its time had come: whichever was first, there is nothing to capture.
      expect(captured.json).toMatchObject({ status: 409, code: 'hold_not_active' })
      ended.push((await stateOf(id)).status)
    }
    expect(new Set(ended)).toEqual(new Set(['expired']))
  })

  it('expires more than one page of them', async () => {
    const { id } = await api.opened('1000000')
    const places = Array.from({ length: 520 }, () =>
      api.send(`/accounts/${id}/holds`, { body: { amount: '1' } }),
    )
    await Promise.all(places)
    await makeDue(id)
    await expire()
    expect(await stateOf(id)).toMatchObject({ held: '0', version: 2 + 2 * 520 })
  })

  it('is done by one process at a time; another takes over when it is done, or has died', async () => {
    const [first, second] = [oneAtATime(api.pool, 'elected'), oneAtATime(api.pool, 'elected')]
    expect(await first.shouldRun('a', 0)).toBe(true)
    expect(await second.shouldRun('a', 0)).toBe(false)
    await first.onComplete?.('a')
    expect(await second.shouldRun('b', 0)).toBe(true)
    expect(await first.shouldRun('b', 0)).toBe(false)
    await second.onComplete?.('b')
  })

  it('comes by itself while the timers run', async () => {
    const { id } = await held('6', { expiresInSeconds: 1 })
    const timers = [1, 2].map(() =>
      startTimer({
        name: 'hold-expiry',
        pool: api.pool,
        everySeconds: 1,
        log: api.log,
        work: expire,
      }),
    )
    await waitUntil(async () => (await stateOf(id)).status === 'expired', {
      what: 'the hold to expire',
      deadlineMs: 15_000,
    })
    for (const timer of timers) await timer[Symbol.asyncDispose]()
    expect(await stateOf(id)).toEqual({ held: '0', balance: '10', version: 4, status: 'expired' })
  })
})
