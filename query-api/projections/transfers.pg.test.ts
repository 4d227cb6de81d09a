import { randomUUID } from 'node:crypto'
import type { OutboxRow } from 'outbox-relay/wire'
import { afterAll, expect, test } from 'vitest'
import { eventRow, outboxRow, projected, timeOf } from '../test-events.ts'
import { storyOf } from '../test-story.ts'
import { inTransaction } from '../transaction.ts'
import { openReadModel } from './test-read-model.ts'
import { transferRoutes } from './transfers-reads.ts'
import { transfers } from './transfers.ts'

const model = await openReadModel({ projection: transfers, routes: transferRoutes })
afterAll(() => model[Symbol.asyncDispose]())
const { apply, rebuild } = model
const transfer = (id: string) => model.body('/transfers/:id', { params: { id } })

type Transfer = { transferId: string; transactionId: string; from: string; to: string }

const newTransfer = (from: string, to: string): Transfer => ({
  transferId: randomUUID(),
  transactionId: randomUUID(),
  from,
  to,
})

const after = (version: number) => ({
  version,
  ledgerBalance: '5',
  held: '0',
  available: '5',
  status: 'open',
})

function half(of: Transfer, side: 'from' | 'to', version: number): OutboxRow {
  const { transferId, transactionId } = of
  const account = of[side]
  const payload = {
    accountId: account,
    transferId,
    transactionId,
    counterpartyId: of[side === 'from' ? 'to' : 'from'],
    amount: '250',
    currency: 'EUR',
    reference: 'rent',
    effectiveAt: timeOf(1),
    after: after(version),
  }
  const type = side === 'from' ? 'FundsTransferredOut.v1' : 'FundsTransferredIn.v1'
  return outboxRow({ account, version, type, at: timeOf(version), payload })
}

function reversal(of: Transfer, side: 'from' | 'to', [version, by]: [number, string]): OutboxRow {
  const account = of[side]
  const payload = {
    accountId: account,
    transactionId: by,
    amount: '250',
    currency: 'EUR',
    reference: null,
    effectiveAt: timeOf(version),
    reversedTransactionId: of.transactionId,
    direction: side === 'from' ? 'credit' : 'debit',
    counterpartyId: of[side === 'from' ? 'to' : 'from'],
    after: after(version),
  }
  return outboxRow({
    account,
    version,
    type: 'TransactionReversed.v1',
    at: timeOf(version),
    payload,
  })
}

const isoOf = (version: number) => timeOf(version).replace('000Z', 'Z')

test('both halves are one transfer, whichever comes first', async () => {
  for (const first of ['from', 'to'] as const) {
    const moved = newTransfer(`${first}-a`, `${first}-b`)
    const { transferId: id } = moved
    const second = first === 'from' ? 'to' : 'from'
    await expect(transfer(id)).rejects.toMatchObject({ code: 'transfer_not_found' })
    await apply([eventRow(moved[first], 1), half(moved, first, 2)])
    const known = { accountId: moved[first], version: 2, recordedAt: isoOf(2) }
    const missing = { accountId: moved[second], version: null, recordedAt: null }
    expect(await transfer(id)).toMatchObject({
      status: 'partial',
      [first]: known,
      [second]: missing,
      version: 1,
      asOf: isoOf(2),
    })
    await apply([eventRow(moved[second], 1), half(moved, second, 2)])
    expect(await transfer(id)).toEqual({
      id,
      transactionId: moved.transactionId,
      status: 'complete',
      amount: '250',
      currency: 'EUR',
      reference: 'rent',
      effectiveAt: isoOf(1),
      from: { accountId: moved.from, version: 2, recordedAt: isoOf(2) },
      to: { accountId: moved.to, version: 2, recordedAt: isoOf(2) },
      reversedBy: null,
      version: 2,
      asOf: isoOf(2),
    })
  }
})

test('many transfers between the same accounts, met from both sides at once, wait for nobody', async () => {
  const moved = Array.from({ length: 200 }, () => newTransfer('busy-a', 'busy-b'))
  const side = (which: 'from' | 'to', account: string, order: readonly Transfer[]) => [
    eventRow(account, 1),
    ...order.map((each, index) => half(each, which, index + 2)),
  ]
  const from = side('from', 'busy-a', moved)
  const to = side('to', 'busy-b', moved.toReversed())
  // The second transaction commits while the first one is still at work on the same transfers.
  await inTransaction(model.pool, 20_000, async (transaction) => {
    await transfers.apply(transaction, from.map(projected), 'log')
    await transaction.settle()
    await apply(to)
  })
  const states = await Promise.all(moved.map(({ transferId }) => transfer(transferId)))
  expect(new Set(states.map(({ status }) => status))).toEqual(new Set(['complete']))
})

test('a reversed transfer says by what, from whichever half is known', async () => {
  const moved = newTransfer('back-a', 'back-b')
  const by = randomUUID()
  await apply([eventRow('back-a', 1), half(moved, 'from', 2), reversal(moved, 'from', [3, by])])
  expect(await transfer(moved.transferId)).toMatchObject({
    status: 'partial',
    reversedBy: by,
    version: 2,
    asOf: isoOf(3),
  })
  await apply([eventRow('back-b', 1), half(moved, 'to', 2)])
  await apply([reversal(moved, 'to', [3, by])])
  expect(await transfer(moved.transferId)).toMatchObject({ reversedBy: by, version: 4 })
})

test('an account that is rebuilt brings its own halves again, and leaves the others alone', async () => {
  const moved = newTransfer('anew-a', 'anew-b')
  const other = newTransfer('anew-a', 'anew-c')
  const from = [eventRow('anew-a', 1), half(moved, 'from', 2), half(other, 'from', 3)]
  await apply([...from, eventRow('anew-b', 1), half(moved, 'to', 2)])
  await rebuild('anew-a', from.slice(0, 2).map(projected))
  expect(await transfer(moved.transferId)).toMatchObject({ status: 'complete' })
  await expect(transfer(other.transferId)).rejects.toMatchObject({ code: 'transfer_not_found' })
  expect(await model.versions(['anew-a', 'anew-b'])).toEqual(
    new Map([
      ['anew-a', 2],
      ['anew-b', 2],
    ]),
  )
})

type Half = { account_id: string; transaction_id: string; reversed_by: string | null }

test('of a story with every type of event, the halves are those of a fold in memory', async () => {
  const story = storyOf(25)
  await apply(story)
  const fold = new Map<string, Record<string, unknown>>()
  for (const { account, version, event } of story.map(projected)) {
    const { type, at, payload } = event
    if (type === 'FundsTransferredOut.v1' || type === 'FundsTransferredIn.v1') {
      const { transferId, transactionId, counterpartyId, amount, currency, reference } = payload
      fold.set(`${account} ${transactionId}`, {
        transfer_id: transferId,
        side: type === 'FundsTransferredOut.v1' ? 'from' : 'to',
        account_id: account,
        counterparty_id: counterpartyId,
        transaction_id: transactionId,
        amount,
        currency,
        reference,
        effective_at: new Date(payload.effectiveAt),
        version: String(version),
        recorded_at: new Date(at),
        reversed_by: null,
        reversed_at: null,
      })
    }
    if (type !== 'TransactionReversed.v1') continue
    const half = fold.get(`${account} ${payload.reversedTransactionId}`)
    if (half) Object.assign(half, { reversed_by: payload.transactionId, reversed_at: new Date(at) })
  }
  const { rows } = await model.pool.query<Half>(
    `select * from read.transfer_halves where account_id like 'story-%'`,
  )
  const halves = rows.map((row) => [`${row.account_id} ${row.transaction_id}`, row] as const)
  expect(new Map(halves)).toEqual(fold)
  expect(rows.some((row) => row.reversed_by !== null)).toBe(true)
})
