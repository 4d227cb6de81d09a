import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { testDatabases } from 'local-stack/test-databases'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventSchemas } from '../events.ts'
import { expireHolds } from '../expiry.ts'
import { testApi, type TestApi } from '../test-api.ts'
import { asOperator } from '../test-requests.ts'

let api: TestApi
let admin: Client

/** Four accounts to which everything happens that can. */
beforeAll(async () => {
  api = await testApi()
  admin = new Client({ connectionString: api.databases.write() })
  await admin.connect()
  const a = await api.opened('100', { id: 'a' })
  await api.opened('5', { id: 'b', currency: 'EUR' })
  const c = await api.opened(undefined, { id: 'c' })
  for (const amount of ['10', '20']) await api.send(`/accounts/a/holds`, { body: { amount } })
  const { json } = await api.send('/accounts/a/holds', { body: { amount: '9' } })
  await api.send(`/accounts/a/holds/${json.hold.id}/capture`, { body: { amount: '4' } })
  const sent = { body: { from: a.id, to: 'b', amount: '30' } }
  const moved = await api.send('/transfers', sent)
  await api.send(`/transactions/${moved.json.transactionId}/reversal`)
  for (const step of ['close', 'reopen', 'close']) {
    await api.send(`/accounts/${c.id}/${step}`, { headers: { 'if-match': '*' } })
  }
  await forced()
})

/** Account d: its overdraft is lent, and a forced debit takes more. */
async function forced(): Promise<void> {
  await api.opened('10', { id: 'd' })
  const send = (path: string, body: object = {}, method = 'POST') =>
    api.send(`/accounts/d${path}`, {
      method,
      headers: { ...asOperator, 'if-match': '*' },
      body,
    })
  await send('/holds', { amount: '3', expiresInSeconds: 1 })
  const later = { ...api.operations.birth, now: () => new Date(Date.now() + 5_000) }
  await expireHolds(api.pool, api.operations.execute, later)
  const { json } = await send('/holds', { amount: '3' })
  await send(`/holds/${json.hold.id}/release`)
  await send('/overdraft-limit', { overdraftLimit: '20' }, 'PUT')
  await send('/freeze', { scope: 'all', reason: 'a court' })
  await send('/unfreeze')
  await send('', { owner: 'Eve', metadata: { branch: '7' } }, 'PATCH')
  await send('/withdrawals', { amount: '25', currency: 'EUR' })
  await send('/force-debits', { amount: '60', reason: 'a fee' })
}

afterAll(async () => {
  await admin.end()
  await api[Symbol.asyncDispose]()
})

const program = fileURLToPath(new URL('main.ts', import.meta.url))

function run(url = api.databases.write('sluice_command')) {
  return new Promise<{ code: number; said: string }>((resolve) => {
    const env = { ...process.env, WRITE_DATABASE_URL: url }
    execFile(process.execPath, [program], { env }, (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, said: stdout + stderr }),
    )
  })
}

/** Does what no role may, runs the audit, and undoes it. */
async function corrupted(damage: string, repair: string) {
  const names = ['account_events', 'entries', 'reversals']
  const tables = names.map((name) => `alter table ledger.${name}`)
  await admin.query(tables.map((each) => `${each} disable trigger user`).join(';'))
  try {
    await admin.query(damage)
    return await run()
  } finally {
    await admin.query(repair)
    const always = [
      `${tables[0]} enable always trigger account_events_append_only`,
      `${tables[1]} enable always trigger entries_append_only`,
      `${tables[1]} enable always trigger entries_balance`,
      `${tables[2]} enable always trigger reversals_append_only`,
    ]
    await admin.query(always.join(';'))
  }
}

describe('npm run audit', () => {
  it('finds a database whose every row is as the events say, and an empty one', async () => {
    expect(await run()).toEqual({
      code: 0,
      said: 'audit: 4 accounts, 28 events: all as the events say\n',
    })
    await using empty = await testDatabases()
    expect(await run(empty.write('sluice_command'))).toMatchObject({ code: 0 })
  })

  it('was shown every kind of event', async () => {
    const { rows } = await admin.query('select distinct type from ledger.account_events')
    const types = Object.keys(eventSchemas())
    expect(rows.map((row) => row.type).toSorted()).toEqual(types.toSorted())
  })

  const event = `update ledger.account_events set`
  it.each<[check: string, at: string, damage: string, repair: string]>([
    [
      'versions_1_to_n',
      'a version 9',
      `${event} version = 9 where account_id = 'a' and version = 8`,
      `${event} version = 8 where account_id = 'a' and version = 9`,
    ],
    [
      'versions_1_to_n',
      'b version 2',
      `${event} version = version + 100 where account_id = 'b' and version = 1`,
      `${event} version = 1 where account_id = 'b' and version = 101`,
    ],
    [
      'positions_in_version_order',
      'b version 2',
      `${event} outbox_position = -outbox_position where account_id = 'b' and version = 2`,
      `${event} outbox_position = -outbox_position where account_id = 'b' and version = 2`,
    ],
    [
      'queue_holds_the_event',
      'b version 1',
      `update outbox.events set aggregatetype = 'account', id = gen_random_uuid()
         where aggregateid = 'b' and aggregateversion = 1`,
      `update outbox.events o set id = e.id from ledger.account_events e
         where o.position = e.outbox_position`,
    ],
    [
      'event_unreadable',
      'c version 2',
      `${event} type = 'AccountClosed.v9' where account_id = 'c' and version = 2`,
      `${event} type = 'AccountClosed.v1' where account_id = 'c' and version = 2`,
    ],
    [
      'account_is_fold',
      'b version 2: balance after the event',
      `${event} payload = replace(payload::text, '"amount":"5"', '"amount":"6"')::json
         where account_id = 'b' and version = 2`,
      `${event} payload = replace(payload::text, '"amount":"6"', '"amount":"5"')::json
         where account_id = 'b' and version = 2`,
    ],
    [
      'account_is_fold',
      'a',
      `update ledger.accounts set ledger_balance = ledger_balance + 1 where id = 'a'`,
      `update ledger.accounts set ledger_balance = ledger_balance - 1 where id = 'a'`,
    ],
    [
      'account_is_fold',
      'c',
      `update ledger.accounts set frozen = 'all' where id = 'c'`,
      `update ledger.accounts set frozen = null where id = 'c'`,
    ],
    [
      'account_is_fold',
      'stranger',
      `insert into ledger.accounts select 'stranger', owner, currency, exponent, type, status, frozen,
         0, 0, 0, metadata, 1, opened_at, as_of from ledger.accounts where id = 'c'`,
      `delete from ledger.accounts where id = 'stranger'`,
    ],
    [
      'held_is_sum_of_active_holds',
      'a',
      `update ledger.holds set status = 'released' where account_id = 'a' and amount = 10`,
      `update ledger.holds set status = 'active' where account_id = 'a' and amount = 10`,
    ],
    [
      'hold_is_fold',
      'a',
      `update ledger.holds set status = 'released' where account_id = 'a' and amount = 9`,
      `update ledger.holds set status = 'captured' where account_id = 'a' and amount = 9`,
    ],
    [
      'account_is_fold',
      'd version 12: balance after the event',
      `${event} payload = replace(payload::text, '"amount":"60"', '"amount":"59"')::json
         where account_id = 'd' and version = 12`,
      `${event} payload = replace(payload::text, '"amount":"59"', '"amount":"60"')::json
         where account_id = 'd' and version = 12`,
    ],
    [
      'nothing_below_its_limit',
      'd version 12',
      `${event} type = 'FundsWithdrawn.v1', payload = (payload::jsonb - 'reason')::json
         where type = 'FundsForceDebited.v1'`,
      `${event} type = 'FundsForceDebited.v1',
         payload = (payload::jsonb || '{"reason":"a fee"}')::json
         where account_id = 'd' and version = 12`,
    ],
    [
      'reversal_is_fold',
      'transaction ',
      `update ledger.reversals set reversed_by = transaction_id`,
      `update ledger.reversals set reversed_by = (select (payload ->> 'transactionId')::uuid
         from ledger.account_events where type = 'TransactionReversed.v1' limit 1)`,
    ],
    [
      'reversal_is_fold',
      'transaction ',
      `insert into ledger.reversals select reversed_by, transaction_id, now() from ledger.reversals`,
      `delete from ledger.reversals where reversed_at > (select occurred_at
         from ledger.account_events where type = 'TransactionReversed.v1' limit 1)`,
    ],
    [
      'balance_is_sum_of_entries',
      'd',
      `update ledger.entries set amount = amount + 1 where account_id = 'd' and account_version = 12`,
      `update ledger.entries set amount = amount - 1 where account_id = 'd' and account_version = 12`,
    ],
    [
      'balance_is_sum_of_entries',
      'b',
      `update ledger.entries set amount = amount + 1 where account_id = 'b' and account_version = 2`,
      `update ledger.entries set amount = amount - 1 where account_id = 'b' and account_version = 2`,
    ],
    [
      'entries_sum_to_zero',
      'transaction ',
      `update ledger.entries set amount = amount - 1
         where account_id = 'sluice-cash-EUR' and amount = -5`,
      `update ledger.entries set amount = amount + 1
         where account_id = 'sluice-cash-EUR' and amount = -6`,
    ],
    [
      'entries_sum_to_zero',
      'transaction ',
      `update ledger.entries set currency = 'USD'
         where account_id = 'sluice-cash-EUR' and amount = -5`,
      `update ledger.entries set currency = 'EUR' where currency = 'USD'`,
    ],
  ])('finds %s at %s', async (check, at, damage, repair) => {
    const { code, said } = await corrupted(damage, repair)
    expect(said).toContain(`audit: ${check} fails at ${at}`)
    expect(code).toBe(1)
    expect(await run()).toMatchObject({ code: 0 })
  })

  it('says so when there is no database to look at', async () => {
    const { code, said } = await run('postgres://127.0.0.1:1/none')
    expect([code, said]).toEqual([2, expect.stringMatching(/^audit: /)])
  })
})
