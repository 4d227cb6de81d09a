import { randomUUID } from 'node:crypto'
import { waitUntil } from 'local-stack'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Answer } from '../answer.ts'
import { Executor } from '../executor.ts'
import { testApi, type TestApi } from '../test-api.ts'
import type { Asked } from './test-bank.ts'
import { commandOf } from './test-side.ts'

let api: TestApi
beforeAll(async () => {
  api = await testApi()
})
afterAll(() => api[Symbol.asyncDispose]())

const lanes = 2
const batchLimit = 64

/** Waits for what it submits, or only counts. */
function openExecutor(queueLimit = 10_000) {
  const { pool, log } = api
  const settings = { pool, log, newId: randomUUID, lanes, batchLimit, queueLimit }
  const executor = new Executor({ ...settings, patienceMs: 60_000 })
  const deposit = (account: string): Promise<Answer> => {
    const asked: Asked = { kind: 'Deposit', account, amount: 1n, currency: 'EUR' }
    return executor.submit(commandOf(asked, { key: randomUUID(), n: 0 }))
  }
  return { deposit }
}

const openedMany = async (count: number) =>
  (await Promise.all(Array.from({ length: count }, () => api.opened()))).map(({ id }) => id)

/** How many of a flood's commands were answered before those that came after it. */
async function answeredBefore(late: (hot: string, quiet: string[]) => string[], flood = 3_000) {
  const [hot = '', ...quiet] = await openedMany(1 + 30)
  const { deposit } = openExecutor()
  let answered = 0
  const flooding = Array.from({ length: flood }, async () => {
    await deposit(hot)
    answered += 1
  })
  await waitUntil(() => answered > 0, { what: 'the flood to be under way', intervalMs: 1 })
  const before = answered
  const answers = await Promise.all(late(hot, quiet).map(deposit))
  const between = answered - before
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]))
  await Promise.all(flooding)
  return between
}

describe('a flood of commands on one account', () => {
  it('lets those on others pass: they wait for two batches of each lane, and no more', async () => {
    const between = await answeredBefore((_, quiet) => quiet)
    expect(between).toBeLessThanOrEqual(2 * lanes * batchLimit)
  })

  it('would be waited for by commands on the same account', async () => {
    const between = await answeredBefore((hot) => Array.from({ length: 30 }, () => hot))
    expect(between).toBeGreaterThan(2_000)
  })

  it('fills half of the queue, and leaves the other half to the others', async () => {
    const [hot = '', ...quiet] = await openedMany(1 + 30)
    const { deposit } = openExecutor(400)
    const flooding = Array.from({ length: 1_000 }, () => deposit(hot))
    const answers = await Promise.all(quiet.map(deposit))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]))
    const statuses = (await Promise.all(flooding)).map(({ status }) => status)
    const refused = statuses.filter((status) => status === 503).length
    expect(refused).toBe(1_000 - 200)
  })
})
