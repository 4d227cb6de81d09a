import { testDatabases } from 'local-stack/test-databases'
import { describe, expect, test } from 'vitest'
import { checkRows, targets } from './catch-up.ts'
import { streamedThroughout } from './change-capture.ts'
import { counted } from './deposits.ts'
import type { CommandKind, LoadResult } from './http-load.ts'
import { checkLedger } from './ledger-check.ts'
import { eventsPerAccount } from './outbox-fill.ts'
import { connect } from './servers.ts'

// The checks that stand between a wrong run and its speed, given rows that are wrong.

const queueColumns = `id, aggregatetype, aggregateid, aggregateversion, type, payload, source,
  specversion, traceparent, correlationid, causationid, occurred_at`

/** Of a deposit of 100 as version `version` of account `account`. */
const queued = (account: string, version: number, type = 'FundsDeposited.v1') =>
  `insert into outbox.events (${queueColumns}) values (gen_random_uuid(), 'account', '${account}',
    ${version}, '${type}', '{}', 'urn:test', '1.0', '00-1-1-01', 'c', 'c', now())`

const recorded = `insert into ledger.account_events (account_id, version, id, type, payload,
    outbox_position, traceparent, correlationid, causationid, occurred_at)
  select aggregateid, aggregateversion, id, type, payload, position, traceparent, correlationid,
    causationid, occurred_at
  from outbox.events where type <> 'Heartbeat.v1'
  on conflict do nothing`

const entered = `insert into ledger.entries (transaction_id, account_id, account_version, currency,
    amount, effective_at, recorded_at)
  select id, line.account_id, line.version, 'EUR', amount, now(), now()
  from ledger.account_events cross join lateral (values
    (account_id, version, 100), ('sluice-cash', null, -100)) as line (account_id, version, amount)`

const opened = `insert into ledger.accounts (id, owner, currency, exponent, type, status,
    ledger_balance, held, overdraft_limit, metadata, version, opened_at, as_of)
  select id, 'Ada', 'EUR', 2, 'current', 'open', 300, 0, 0, '{}', 3, now(), now()
  from unnest('{a,b}'::text[]) as id`

const answered = (key: string) =>
  `insert into ledger.idempotency (caller, key, fingerprint, status, body, answered_at)
   values ('bench', '${key}', '', 201, '{}', now())`

const unguarded = `alter table ledger.account_events disable trigger user;
  alter table ledger.entries disable trigger user`

/** Two accounts at version 3, and a heartbeat, which is in the queue only. */
async function rightLedger() {
  const databases = await testDatabases()
  const versions = [1, 2, 3].flatMap((version) => [queued('a', version), queued('b', version)])
  const heartbeat = queued('sluice-heartbeat-0', 1, 'Heartbeat.v1')
  await run(databases.write(), [...versions, heartbeat, recorded, entered, opened])
  return databases
}

async function run(url: string, statements: readonly string[]): Promise<void> {
  await using client = await connect(url)
  await client.query(statements.join(';'))
}

describe('the check of the ledger', () => {
  test('finds nothing where everything is right', async () => {
    await using databases = await rightLedger()
    await checkLedger(databases.write())
  })

  const event = 'update ledger.account_events set'
  const ofA = `where account_id = 'a' and version`
  test.each<[fault: string, what: string, damage: string]>([
    [
      'accounts that are not at their last event',
      'the last event is missing',
      `delete from ledger.account_events ${ofA} = 3`,
    ],
    [
      'accounts that are not at their last event',
      'an account is ahead of its events',
      `update ledger.accounts set version = 4 where id = 'a'`,
    ],
    [
      'accounts whose versions have holes',
      'the first is missing',
      `delete from ledger.account_events ${ofA} = 1`,
    ],
    [
      'accounts whose versions have holes',
      'one between is missing',
      `delete from ledger.account_events ${ofA} = 2`,
    ],
    [
      'events at a position before that of an earlier version',
      'version 2 stands behind version 3',
      `${event} outbox_position = 1000 ${ofA} = 2`,
    ],
    [
      'accounts whose balance is not the sum of their entries',
      'a balance is 1 too high',
      `update ledger.accounts set ledger_balance = ledger_balance + 1 where id = 'a'`,
    ],
    [
      'accounts whose balance is not the sum of their entries',
      'an account has no entries',
      `delete from ledger.entries where account_id = 'a'`,
    ],
    [
      'currencies whose entries do not sum to zero',
      'the other side of a deposit is missing',
      `delete from ledger.entries where ctid =
        (select min(ctid) from ledger.entries where account_id = 'sluice-cash')`,
    ],
    [
      'events that are not in the queue as they were recorded',
      'one was never queued',
      `delete from outbox.events where aggregateid = 'a' and aggregateversion = 2`,
    ],
    [
      'events that are not in the queue as they were recorded',
      'one is queued that was not recorded',
      queued('a', 4),
    ],
  ])('finds %s: %s', async (fault, _what, damage) => {
    await using databases = await rightLedger()
    await run(databases.write(), [unguarded, damage])
    await expect(checkLedger(databases.write())).rejects.toMatchObject({
      code: 'violation',
      message: `${fault}: 1, and must be 0`,
    })
  })

  test.each<[what: string, change: string]>([
    ['id', 'id = gen_random_uuid()'],
    ['account', `aggregateid = 'b'`],
    ['version', 'aggregateversion = 9'],
  ])('finds an event that is queued under another %s', async (_what, change) => {
    await using databases = await rightLedger()
    const where = `where aggregateid = 'a' and aggregateversion = 2`
    await run(databases.write(), [`update outbox.events set ${change} ${where}`])
    // The event without its row, and the row without its event.
    await expect(checkLedger(databases.write())).rejects.toMatchObject({
      code: 'violation',
      message: 'events that are not in the queue as they were recorded: 2, and must be 0',
    })
  })
})

describe('the check of the projected accounts', () => {
  const last = (eventsPerAccount - 1) * 100
  const account = (id: string, version = eventsPerAccount, balance = last) =>
    `insert into read.accounts (id, owner, currency, exponent, type, status, ledger_balance, held,
      available, overdraft_limit, metadata, version, last_event_id, opened_at, as_of)
    values ('${id}', 'Ada', 'EUR', 2, 'current', 'open', ${balance}, 0, ${balance}, 0, '{}',
      ${version}, gen_random_uuid(), now(), now())`

  const target = targets.find(({ projection }) => projection === 'accounts')!

  test('finds nothing where two of two are at their last event', async () => {
    await using databases = await testDatabases()
    await run(databases.read(), [account('a'), account('b')])
    await checkRows(databases, target, 2)
  })

  test.each<[what: string, rows: string[], message: string]>([
    ['one that is missing', [account('a')], 'rows of accounts: 1'],
    ['one too many', ['a', 'b', 'c'].map((id) => account(id)), 'rows of accounts: 3'],
    [
      'one that lacks its last event',
      [account('a'), account('b', eventsPerAccount - 1)],
      'rows of accounts that are right: 1',
    ],
    [
      'one whose balance is another',
      [account('a'), account('b', eventsPerAccount, last - 100)],
      'rows of accounts that are right: 1',
    ],
  ])('finds %s', async (_what, rows, message) => {
    await using databases = await testDatabases()
    await run(databases.read(), rows)
    await expect(checkRows(databases, target, 2)).rejects.toMatchObject({
      code: 'violation',
      message: `${message}, and must be 2`,
    })
  })
})

describe('the count of what commands leave', () => {
  const paid = (amount: number) =>
    `update ledger.accounts set ledger_balance = ledger_balance + ${amount} where id = 'a'`
  const deposit = [queued('a', 4), recorded, answered('1'), paid(100)]

  async function count(kind: CommandKind, commands: number, left: readonly string[]) {
    await using databases = await rightLedger()
    const result: LoadResult = { answered: commands, perSecond: 1, p50Ms: 1, p99Ms: 1, cores: 1 }
    return await counted({ databases, servers: { postgresPid: process.pid } }, kind, async () => {
      await run(databases.write(), left)
      return result
    })
  }

  test('is content with a deposit, a transfer, a dry run and a refusal as they are', async () => {
    const transfer = [queued('a', 4), queued('b', 4), recorded, answered('1')]
    const counts = [
      count('deposit', 1, deposit),
      count('transfer', 1, transfer),
      count('dry run', 1, []),
      count('refusal', 1, [answered('1')]),
    ]
    for (const result of await Promise.all(counts)) expect(result.answered).toBe(1)
  })

  test.each<[what: string, kind: CommandKind, left: string[], message: string]>([
    [
      'an answered deposit that left nothing',
      'deposit',
      [],
      'events of deposits: 0, and must be 1',
    ],
    [
      'a deposit of more than was answered',
      'deposit',
      [queued('b', 4), ...deposit],
      'events of deposits: 2, and must be 1',
    ],
    [
      'an event that was queued twice',
      'deposit',
      [...deposit, queued('a', 4)],
      'queued of deposits: 2, and must be 1',
    ],
    [
      'an answer that was not kept',
      'deposit',
      [queued('a', 4), recorded, paid(100)],
      'answers of deposits: 0, and must be 1',
    ],
    [
      'money that is short',
      'deposit',
      [queued('a', 4), recorded, answered('1'), paid(99)],
      'money of deposits: 99, and must be 100',
    ],
    [
      'money that a transfer made',
      'transfer',
      [queued('a', 4), queued('b', 4), recorded, answered('1'), paid(1)],
      'money of transfers: 1, and must be 0',
    ],
    ['a dry run that wrote', 'dry run', deposit, 'events of dry runs: 1, and must be 0'],
    ['a refusal without its answer', 'refusal', [], 'answers of refusals: 0, and must be 1'],
  ])('finds %s', async (_what, kind, left, message) => {
    await expect(count(kind, 1, left)).rejects.toMatchObject({ code: 'violation', message })
  })
})

describe('the check that the log was read throughout', () => {
  const said = (action: string) =>
    `insert into outbox.audit (epoch, actor, action, reason) values (1, 'relay', '${action}', 'test')`

  test.each<[what: string, actions: string[]]>([
    ['a log that was never read', []],
    ['one that was given up', ['stream_began', 'stream_ended']],
    ['one that was begun twice', ['stream_began', 'stream_began']],
  ])('finds %s, beside one that was read on', async (_what, actions) => {
    await using databases = await testDatabases()
    await run(databases.write(), actions.map(said))
    await expect(streamedThroughout(databases)).rejects.toMatchObject({ code: 'violation' })
    await run(databases.write(), ['truncate outbox.audit', said('stream_began'), said('other')])
    await streamedThroughout(databases)
  })
})
