import { randomUUID } from 'node:crypto'
import { testDatabases } from 'local-stack/test-databases'
import { afterAll, expect, test } from 'vitest'
import { accounts } from './accounts.ts'
import type { ProjectedEvent } from '../projection.ts'
import { eventRow, outboxRow, projected, timeOf } from '../test-events.ts'
import { openProjectorPool } from '../test-pools.ts'
import { inTransaction } from '../transaction.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(openProjectorPool(databases))
afterAll(() => cleanup.disposeAsync())

const apply = (events: readonly ProjectedEvent[]) =>
  inTransaction(pool, 10_000, (transaction) => accounts.apply(transaction, events))

const rowOf = async (id: string) =>
  (await pool.query('select * from read.accounts where id = $1', [id])).rows[0]

/** An account's second and later events, each told by its type and what it says. */
const told = (
  account: string,
  events: readonly [type: string, payload: object, after?: object][],
) =>
  events.map(([type, payload, after], index) => {
    const version = index + 2
    const state = { ledgerBalance: '0', held: '0', available: '0', status: 'open' }
    const own = { accountId: account, ...payload, after: { ...state, ...after, version } }
    return outboxRow({ account, version, type, at: timeOf(version), payload: own })
  })

const attributes = [
  ['AccountFrozen.v1', { scope: 'debits', reason: 'a court' }],
  ['OverdraftLimitChanged.v1', { overdraftLimit: '70', previousLimit: '0' }, { available: '70' }],
  ['AccountDetailsUpdated.v1', { owner: 'Eve', metadata: { branch: '7' } }, { available: '70' }],
  ['AccountUnfrozen.v1', { reason: null }, { available: '70' }],
  ['AccountFrozen.v1', { scope: 'all', reason: 'again' }, { available: '70' }],
] as const

test.each([1, 2, 3, 6])(
  'freeze, limit, owner and metadata are what the last event that told of them said, in batches of %i',
  async (size) => {
    const account = `told-${size}`
    const events = [eventRow(account, 1), ...told(account, attributes as never)].map(projected)
    for (let from = 0; from < events.length; from += size) {
      await apply(events.slice(from, from + size))
    }
    expect(await rowOf(account)).toMatchObject({
      owner: 'Eve',
      frozen: 'all',
      overdraft_limit: '70',
      available: '70',
      metadata: { branch: '7' },
      version: '6',
    })
    const unfrozen = outboxRow({
      account,
      version: 7,
      type: 'AccountUnfrozen.v1',
      at: timeOf(7),
      payload: {
        accountId: account,
        reason: 'over',
        after: { version: 7, ledgerBalance: '0', held: '0', available: '70', status: 'open' },
      },
    })
    await apply([projected(unfrozen)])
    expect(await rowOf(account)).toMatchObject({
      frozen: null,
      owner: 'Eve',
      overdraft_limit: '70',
    })
  },
)

test('holds, captures, transfers and reopening leave the balances and status that they carry', async () => {
  const ids = { transactionId: randomUUID(), holdId: randomUUID(), transferId: randomUUID() }
  const { transactionId, holdId, transferId } = ids
  const money = { amount: '4', currency: 'EUR', reference: null }
  const moved = { ...money, transactionId, effectiveAt: timeOf(1) }
  const expiresAt = timeOf(90)
  const steps = told('steps', [
    ['HoldPlaced.v1', { holdId, ...money, expiresAt }, { held: '4' }],
    ['HoldCaptured.v1', { holdId, ...moved, released: '0' }, { ledgerBalance: '-4' }],
    ['FundsTransferredIn.v1', { ...moved, transferId, counterpartyId: 'b' }],
    ['AccountClosed.v1', {}, { status: 'closed' }],
    ['AccountReopened.v1', {}],
    [
      'TransactionReversed.v1',
      {
        ...moved,
        reversedTransactionId: randomUUID(),
        direction: 'credit',
        counterpartyId: null,
      },
      { ledgerBalance: '4' },
    ],
  ]).map(projected)
  await apply([projected(eventRow('steps', 1))])
  const seen = []
  for (const step of steps) {
    await apply([step])
    const { held, ledger_balance, status } = await rowOf('steps')
    seen.push(`${held} ${ledger_balance} ${status}`)
  }
  expect(seen).toEqual(['4 0 open', '0 -4 open', '0 0 open', '0 0 closed', '0 0 open', '0 4 open'])
})
