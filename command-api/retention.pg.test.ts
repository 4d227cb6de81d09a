import { randomUUID } from 'node:crypto'
import { waitUntil } from 'local-stack'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { purgeAnswers } from './retention.ts'
import { testApi, type TestApi } from './test-api.ts'
import { startUpkeep } from './upkeep.ts'

let api: TestApi
beforeAll(async () => {
  api = await testApi()
})
afterAll(() => api[Symbol.asyncDispose]())

const dayMs = 86_400_000
const daysAgo = (days: number) => new Date(Date.now() - days * dayMs)

/** Answers as they were given some days ago. */
const insertAnswers = (count: number, days: number, prefix: string = randomUUID()) =>
  api.pool.query(
    `insert into ledger.idempotency (caller, key, fingerprint, status, body, answered_at)
     select 'tester', $1 || n, '', 201, '{}', $2 from generate_series(1, $3) n`,
    [`${prefix}-`, daysAgo(days), count],
  )

const countOf = async (table: string) =>
  Number((await api.pool.query(`select count(*) from ledger.${table}`)).rows[0].count)

it('removes every answer that is older than was promised, and none that is younger', async () => {
  const before = await countOf('idempotency')
  await insertAnswers(2_500, 31)
  await insertAnswers(20, 29)
  expect(await purgeAnswers(api.pool, daysAgo(30))).toBe(2_500)
  expect(await purgeAnswers(api.pool, daysAgo(30))).toBe(0)
  expect(await countOf('idempotency')).toBe(before + 20)
})

it('makes a key as new: what is sent under it is another command', async () => {
  const { id } = await api.opened()
  const headers = { 'idempotency-key': randomUUID() }
  const deposit = (amount: string) =>
    api.send(`/accounts/${id}/deposits`, { headers, body: { amount, currency: 'EUR' } })
  await deposit('5')
  expect((await deposit('5')).headers.get('idempotent-replayed')).toBe('true')
  expect((await deposit('6')).json.code).toBe('idempotency_key_reused')
  await purgeAnswers(api.pool, daysAgo(-1))
  const anew = await deposit('6')
  expect(anew.json.account.ledgerBalance).toBe('11')
  expect(anew.headers.get('idempotent-replayed')).toBe(null)
})

it('takes an operation with its answer, but no answer whose operation nobody has seen the end of', async () => {
  const { id } = await api.opened()
  const taken = await api.send(`/accounts/${id}/deposits`, {
    headers: { prefer: 'respond-async' },
    body: { amount: '5', currency: 'EUR' },
  })
  const location = taken.headers.get('location') ?? ''
  const look = () => api.send(location, { method: 'GET' })
  await waitUntil(async () => (await look()).json.status === 'done', { what: 'the operation' })
  // As if its process had died right after its commit.
  await purgeAnswers(api.pool, daysAgo(-1))
  expect((await look()).json).toMatchObject({ status: 'done', answer: { status: 201 } })
  const operation = 'update ledger.operations set pending = false where id = $1'
  await api.pool.query(operation, [taken.json.id])
  await purgeAnswers(api.pool, daysAgo(-1))
  expect((await look()).json.code).toBe('operation_not_found')
})

it('takes an operation that failed, which has no answer', async () => {
  await api.pool.query(
    `insert into ledger.operations (id, caller, key, fingerprint, asked, requested_at, pending, failed)
     select gen_random_uuid(), 'tester', days::text, '', '{}', now() - make_interval(days => days),
       days = 40, days <> 40 from unnest(array[29, 31, 40]) days`,
  )
  await purgeAnswers(api.pool, daysAgo(30))
  const { rows } = await api.pool.query(
    `select key from ledger.operations where caller = 'tester' and asked::text = '{}' order by key`,
  )
  expect(rows).toEqual([{ key: '29' }, { key: '40' }])
  await api.pool.query('delete from ledger.operations where pending')
})

it('comes round by itself, in one process at a time', async () => {
  await insertAnswers(10, 3, 'by-itself')
  const settings = { ...api.operations, expirySeconds: 0, idempotencyDays: 2 }
  await using timers = new AsyncDisposableStack()
  for (const timer of [settings, settings].flatMap(startUpkeep)) timers.use(timer)
  const text = `select from ledger.idempotency where key like 'by-itself%'`
  await waitUntil(async () => (await api.pool.query(text)).rowCount === 0, {
    what: 'old answers to be gone',
    deadlineMs: 20_000,
  })
})
