import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { testDatabases } from 'local-stack/test-databases'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testApi, type TestApi } from '../test-api.ts'

let api: TestApi
let admin: Client

/** One account of each kind of history: held, captured, transferred, reversed, closed. */
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
  await api.send(`/accounts/${c.id}/close`, { headers: { 'if-match': '*' } })
})

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
  const tables = ['account_events', 'entries'].map((name) => `alter table ledger.${name}`)
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
    ]
    await admin.query(always.join(';'))
  }
}

describe('npm run audit', () => {
  it('finds a database whose every row is as the events say, and an empty one', async () => {
    expect(await run()).toEqual({
      code: 0,
      said: 'audit: 3 accounts, 14 events: all as the events say\n',
    })
    await using empty = await testDatabases()
    expect(await run(empty.write('sluice_command'))).toMatchObject({ code: 0 })
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
