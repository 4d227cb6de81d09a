import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decodeToken } from './token.ts'
import { testApi, type TestApi } from './test-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await testApi()
})
afterAll(() => api[Symbol.asyncDispose]())

const transfer = (from: string, to: string, amount: string) =>
  api.send('/transfers', { body: { from, to, amount } })

const entriesOf = async (transactionId: string) =>
  (
    await api.pool.query(
      `select account_id, account_version::int as version, amount from ledger.entries
       where transaction_id = $1 order by amount`,
      [transactionId],
    )
  ).rows

describe('a transfer over REST', () => {
  it('answers with both accounts, has no ETag, and its token names both', async () => {
    const [a, b] = [await api.opened('10'), await api.opened()]
    const answer = await transfer(a.id, b.id, '7')
    expect(answer.status).toBe(201)
    expect(answer.json).toEqual({
      transferId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      transactionId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      from: expect.objectContaining({ id: a.id, ledgerBalance: '3', version: 3 }),
      to: expect.objectContaining({ id: b.id, ledgerBalance: '7', version: 2 }),
    })
    expect(answer.headers.get('etag')).toBe(null)
    const token = decodeToken(answer.headers.get('consistency-token') ?? '')
    expect(token).toEqual(
      new Map([
        [a.id, 3],
        [b.id, 2],
      ]),
    )
    expect(await entriesOf(answer.json.transactionId)).toEqual([
      { account_id: a.id, version: 3, amount: '-7' },
      { account_id: b.id, version: 2, amount: '7' },
    ])
  })

  it('is one event on each account, of one command and one transfer', async () => {
    const [a, b] = [await api.opened('10'), await api.opened()]
    const { json } = await transfer(a.id, b.id, '1')
    const { rows } = await api.pool.query(
      `select account_id, type, causationid, payload ->> 'transferId' as transfer
       from ledger.account_events where payload ->> 'transferId' = $1 order by type desc`,
      [json.transferId],
    )
    expect(rows.map(({ account_id, type }) => [account_id, type])).toEqual([
      [a.id, 'FundsTransferredOut.v1'],
      [b.id, 'FundsTransferredIn.v1'],
    ])
    expect(new Set(rows.map((row) => row.causationid)).size).toBe(1)
  })

  it('back and forth at the same moment ends, with no deadlock and no cent lost', async () => {
    const [a, b] = [await api.opened('1000'), await api.opened('1000')]
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, n) =>
        n % 2 === 0 ? transfer(a.id, b.id, '3') : transfer(b.id, a.id, '2'),
      ),
    )
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]))
    const { rows } = await api.pool.query(
      'select ledger_balance from ledger.accounts where id = any($1) order by ledger_balance',
      [[a.id, b.id]],
    )
    expect(rows.map((row) => row.ledger_balance)).toEqual(['900', '1100'])
    const inverted = await api.pool.query(
      `select from (select outbox_position, lag(outbox_position) over
         (partition by account_id order by version) as before
         from ledger.account_events where account_id = any($1)) e
       where outbox_position < before`,
      [[a.id, b.id]],
    )
    expect(inverted.rowCount).toBe(0)
  })

  it('repeated under its key happens once', async () => {
    const [a, b] = [await api.opened('10'), await api.opened()]
    const sent = {
      headers: { 'idempotency-key': 'rent' },
      body: { from: a.id, to: b.id, amount: '4' },
    }
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => api.send('/transfers', sent)),
    )
    expect(new Set(answers.map(({ json }) => JSON.stringify(json))).size).toBe(1)
    expect(answers.filter(({ headers }) => headers.has('idempotent-replayed'))).toHaveLength(9)
  })

  it('reversed, is told as paid back by who was paid, wherever its rows lie in the table', async () => {
    const [a, b] = [await api.opened('10'), await api.opened()]
    const { json } = await transfer(a.id, b.id, '7')
    const admin = new Client({ connectionString: api.databases.write() })
    await admin.connect()
    await admin.query(`begin;
      alter table ledger.entries disable trigger user;
      create temp table kept on commit drop as select * from ledger.entries
        where transaction_id = '${json.transactionId}';
      delete from ledger.entries where transaction_id = '${json.transactionId}';
      insert into ledger.entries select * from kept order by amount desc;
      alter table ledger.entries enable always trigger entries_append_only;
      alter table ledger.entries enable always trigger entries_balance;
      commit`)
    await admin.end()
    const reversal = await api.send(`/transactions/${json.transactionId}/reversal`)
    expect(reversal.json).toMatchObject({
      from: { id: b.id, ledgerBalance: '0' },
      to: { id: a.id, ledgerBalance: '10' },
    })
  })
})
