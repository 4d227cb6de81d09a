import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { OutboxRow } from 'outbox-relay/wire'
import { openLog } from 'service/log'
import { afterAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { runTeller } from '../notifications/teller.ts'
import { eventRow, outboxRow, projected, timeOf } from '../test-events.ts'
import { storyOf } from '../test-story.ts'
import { notifications } from './notifications.ts'
import { openReadModel } from './test-read-model.ts'

const model = await openReadModel({ projection: notifications, routes: () => [] })
afterAll(() => model[Symbol.asyncDispose]())
beforeEach(() => model.pool.query('delete from read.notifications'))
const { apply, rebuild, pool } = model
const patient = { timeout: 20_000, interval: 20 }

function drawn(account: string, version: number, amount = '1000000'): OutboxRow {
  return eventRow(account, version, { amount, balance: '-1', type: 'FundsWithdrawn.v1' })
}

function closed(account: string, version: number): OutboxRow {
  const after = { version, ledgerBalance: '0', held: '0', available: '0', status: 'closed' }
  const payload = { accountId: account, after }
  const type = 'AccountClosed.v1'
  return outboxRow({ account, version, type, at: timeOf(version), payload })
}

async function queued(): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(
    `select kind || '/' || account_id || '/' || version as id from read.notifications order by id`,
  )
  return rows.map(({ id }) => id)
}

type Told = { id: string; key: string | undefined; body: Record<string, unknown> }

/** A webhook that answers as it is told to, and what it was told. */
async function webhook(answer: (told: Told) => number) {
  const told: Told[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>
      const each = {
        id: String(body['id']),
        key: request.headers['idempotency-key'] as string,
        body,
      }
      told.push(each)
      response.writeHead(answer(each)).end()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return { told, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` }
}

function startTelling(webhookUrl: string | undefined, lines?: string[]) {
  const control = new AbortController()
  const log = openLog('query-api', 'silent')
  if (lines !== undefined) {
    vi.spyOn(log, 'info').mockImplementation((fields) => void lines.push(JSON.stringify(fields)))
  }
  const { signal } = control
  const telling = runTeller({ pool, webhookUrl, signal, log, lookIntervalMs: 20, timeoutMs: 500 })
  const stop = async () => {
    control.abort()
    await telling
  }
  onTestFinished(stop)
  return stop
}

test('large withdrawals and closed accounts are queued once, however often they come', async () => {
  const rows = [eventRow('q', 1), drawn('q', 2, '999999'), drawn('q', 3), closed('q', 4)]
  await apply([...rows, ...rows])
  await apply(rows)
  expect(await queued()).toEqual(['account_closed/q/4', 'large_withdrawal/q/3'])
})

test('a repair and a rebuild tell nobody, and take nothing back', async () => {
  const rows = [eventRow('r', 1), drawn('r', 2), drawn('r', 3)]
  await apply(rows.slice(0, 2))
  await rebuild('r', rows.map(projected))
  expect(await queued()).toEqual(['large_withdrawal/r/2'])
  expect(await model.versions(['r'])).toEqual(new Map([['r', 3]]))
})

test('the webhook is told everything, with an id to know repetitions by', async () => {
  const { told, url } = await webhook(() => 204)
  startTelling(url)
  await apply([eventRow('w', 1), drawn('w', 2), closed('w', 3)])
  await vi.waitFor(async () => expect(await queued()).toEqual([]), patient)
  expect(told.map(({ id, key }) => [id, key])).toEqual([
    ['large_withdrawal/w/2', 'large_withdrawal/w/2'],
    ['account_closed/w/3', 'account_closed/w/3'],
  ])
  expect(told[0]?.body).toMatchObject({
    kind: 'large_withdrawal',
    accountId: 'w',
    version: 2,
    amount: '1000000',
    currency: 'EUR',
  })
})

test('while the webhook is away nothing is lost and little is tried', async () => {
  let away = true
  const { told, url } = await webhook(() => (away ? 503 : 200))
  startTelling(url)
  const accounts = Array.from({ length: 50 }, (_, index) => `away-${index}`)
  await apply(accounts.flatMap((account) => [eventRow(account, 1), drawn(account, 2)]))
  await vi.waitFor(() => expect(told.length).toBeGreaterThanOrEqual(3), patient)
  // One at a time: a webhook that is away is not asked once for each that waits.
  expect(told.length).toBeLessThan(10)
  expect(await queued()).toHaveLength(50)
  away = false
  await vi.waitFor(async () => expect(await queued()).toEqual([]), patient)
  const ids = new Set(told.map(({ id }) => id))
  expect(ids).toEqual(new Set(accounts.map((account) => `large_withdrawal/${account}/2`)))
})

test('one that the webhook refuses keeps none of the others waiting', async () => {
  const { told, url } = await webhook(({ id }) => (id.includes('bad') ? 422 : 200))
  startTelling(url)
  await apply([eventRow('bad', 1), drawn('bad', 2), eventRow('good', 1), drawn('good', 2)])
  await vi.waitFor(async () => expect(await queued()).toEqual(['large_withdrawal/bad/2']), patient)
  expect(told.map(({ id }) => id)).toContain('large_withdrawal/good/2')
  const { rows } = await pool.query<{ problem: string }>('select problem from read.notifications')
  expect(rows).toEqual([{ problem: 'the webhook answers 422' }])
})

test('without a webhook the log is told, without amounts', async () => {
  const lines: string[] = []
  startTelling(undefined, lines)
  await apply([eventRow('l', 1), drawn('l', 2, '7654321')])
  await vi.waitFor(async () => expect(await queued()).toEqual([]), patient)
  expect(lines.join()).toContain('large_withdrawal/l/2')
  expect(lines.join()).not.toContain('7654321')
})

test('of a story with every type of event, what is queued is that of a fold in memory', async () => {
  const story = storyOf(31)
  await apply(story)
  const fold = story.map(projected).flatMap(({ account, version, event: { type, payload } }) => {
    const isLarge = 'amount' in payload && payload.amount.length > 6
    if (type === 'AccountClosed.v1') return [`account_closed/${account}/${version}`]
    const isDrawn = type === 'FundsWithdrawn.v1' || type === 'FundsTransferredOut.v1'
    return isDrawn && isLarge ? [`large_withdrawal/${account}/${version}`] : []
  })
  expect((await queued()).toSorted()).toEqual(fold.toSorted())
  expect(fold.length).toBeGreaterThan(10)
})
