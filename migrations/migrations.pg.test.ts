import { randomUUID } from 'node:crypto'
import { testDatabases, type TestDatabases } from 'local-stack/test-databases'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { migrate, type RoleName } from './migrate.ts'

let databases: TestDatabases
beforeAll(async () => {
  databases = await testDatabases()
})
afterAll(() => databases[Symbol.asyncDispose]())

async function as<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

const run = (url: string, text: string, values: unknown[] = []) =>
  as(url, (client) => client.query(text, values))

const insertEvent = (table: string) => `insert into ${table}
  (id, aggregatetype, aggregateid, aggregateversion, type, payload, source, specversion,
   traceparent, correlationid, causationid, occurred_at)
  values (gen_random_uuid(), 'account', 'a', 1, 'T.v1', '{}', 's', '1.0', 't', 'c', 'c', now())`

describe('migrating', () => {
  it('again changes nothing and says so by saying nothing but roles', async () => {
    const lines: string[] = []
    await migrate({
      writeUrl: databases.write(),
      readUrl: databases.read(),
      brokers: [],
      passwords: {},
      report: (line) => lines.push(line),
    })
    expect(lines).toEqual(['write: roles', 'read: roles'])
  })

  it('needs no right to create roles once they exist', async () => {
    const migrated = migrate({
      writeUrl: databases.write('sluice_migrator'),
      readUrl: databases.read('sluice_migrator'),
      brokers: [],
      passwords: {},
      report: () => {},
    })
    await expect(migrated).resolves.toBeUndefined()
  })

  it('lets no column of the outbox be null: it would be a header without a value, or a tombstone', async () => {
    const whole = {
      id: 'gen_random_uuid()',
      aggregatetype: `'account'`,
      aggregateid: `'a'`,
      aggregateversion: '1',
      type: `'T.v1'`,
      payload: `'{}'`,
      source: `'s'`,
      specversion: `'1.0'`,
      traceparent: `'t'`,
      correlationid: `'c'`,
      causationid: `'c'`,
      occurred_at: 'now()',
    }
    for (const column of Object.keys(whole)) {
      const values = Object.values({ ...whole, [column]: 'null' })
      const inserted = run(
        databases.write(),
        `insert into outbox.events (${Object.keys(whole).join()}) values (${values.join()})`,
      )
      await expect(inserted).rejects.toMatchObject({ code: '23502', column })
    }
  })

  it('makes room for 100,000,000 positions, and refuses the next one loudly', async () => {
    const { rows } = await run(
      databases.write(),
      `select count(*)::int as partitions,
         bool_and(pg_get_userbyid(relowner) = 'sluice_maintenance') as owned
       from pg_inherits join pg_class on oid = inhrelid where inhparent = 'outbox.events'::regclass`,
    )
    expect(rows).toEqual([{ partitions: 10, owned: true }])
    await using own = await testDatabases()
    await as(own.write(), async (client) => {
      await client.query(`select setval('outbox.events_position_seq', 99999999)`)
      await client.query(insertEvent('outbox.events'))
      await expect(client.query(insertEvent('outbox.events'))).rejects.toMatchObject({
        code: '23514',
      })
    })
  })
})

describe('the ledger', () => {
  it('refuses a transaction whose entries do not sum to zero', async () => {
    const insert = `insert into ledger.entries
      (transaction_id, account_id, account_version, currency, amount, effective_at, recorded_at)
      select $1, 'a', 1, currency, amount, now(), now()
      from unnest($2::text[], $3::bigint[]) as line (currency, amount)`
    const commit = (...lines: [currency: string, amount: number][]) =>
      run(databases.write('sluice_command'), insert, [
        randomUUID(),
        lines.map(([currency]) => currency),
        lines.map(([, amount]) => amount),
      ])
    await expect(commit(['EUR', 5], ['EUR', -5])).resolves.toMatchObject({ rowCount: 2 })
    await expect(commit(['EUR', 5])).rejects.toMatchObject({ constraint: 'entries_balance' })
    await expect(commit(['EUR', 5], ['USD', -5])).rejects.toMatchObject({ code: '23514' })
  })

  it('refuses a transfer whose halves differ, and one whose second half comes later', async () => {
    const insert = (account: string, amount: number) => `insert into ledger.entries values
      ('0b9f7a52-3c58-4ce4-9d2f-3d3cbbf7a001', '${account}', 1, 'EUR', ${amount}, now(), now())`
    const halves = insert('a', -5) + insert('b', 4).replace(/^.*values/s, ',')
    for (const text of [halves, `begin; ${insert('a', -5)}; ${insert('b', 5)}; commit`]) {
      const refused = run(databases.write('sluice_command'), text)
      await expect(refused).rejects.toMatchObject({ constraint: 'entries_balance' })
    }
  })

  it('refuses a second event at a version that an account has: of two writers one', async () => {
    const insert = (id: string) => `insert into ledger.account_events
      values ('two', 1, '${id}', 'T.v1', '{}', ${id.slice(-2)}, 't', 'c', 'c', now())`
    const [first, second] = [10, 11].map((n) => `0b9f7a52-3c58-4ce4-9d2f-3d3cbbf7a0${n}`)
    await run(databases.write('sluice_command'), insert(first ?? ''))
    const refused = run(databases.write('sluice_command'), insert(second ?? ''))
    await expect(refused).rejects.toMatchObject({ constraint: 'account_events_pkey' })
  })

  it.each(['ledger.account_events', 'ledger.entries', 'ledger.reversals'])(
    'lets nobody change or remove a row of %s, its owner included',
    async (table) => {
      for (const text of [`delete from ${table}`, `truncate ${table}`]) {
        await expect(run(databases.write(), text)).rejects.toThrow('append-only')
      }
      const columns = { entries: 'amount', account_events: 'version', reversals: 'reversed_by' }
      const column = columns[table.split('.')[1] as keyof typeof columns]
      const update = `update ${table} set ${column} = ${column}`
      await expect(run(databases.write(), update)).rejects.toThrow('append-only')
      // Nor as who replays rows of another server, for whom triggers are silent by default.
      const replayed = `set session_replication_role = replica; ${update}`
      await expect(run(databases.write(), replayed)).rejects.toThrow('append-only')
    },
  )
})

describe('each role is refused what is not its work', () => {
  const denied: [RoleName, 'write' | 'read', string][] = [
    ['sluice_command', 'write', 'update ledger.account_events set version = 1'],
    ['sluice_command', 'write', 'delete from ledger.entries'],
    ['sluice_command', 'write', 'delete from ledger.accounts'],
    ['sluice_command', 'write', 'truncate ledger.account_events'],
    ['sluice_command', 'write', 'update ledger.entries set amount = 1'],
    ['sluice_command', 'write', 'alter table ledger.entries disable trigger entries_balance'],
    ['sluice_command', 'write', 'set session_replication_role = replica'],
    ['sluice_command', 'write', 'update ledger.reversals set reversed_by = transaction_id'],
    ['sluice_command', 'write', 'delete from ledger.holds'],
    ['sluice_command', 'write', 'delete from ledger.reversals'],
    ['sluice_command', 'write', 'update ledger.idempotency set status = 200'],
    ['sluice_command', 'write', 'update outbox.events set type = type'],
    ['sluice_command', 'write', 'delete from outbox.events'],
    ['sluice_command', 'write', 'select payload from outbox.events'],
    ['sluice_command', 'write', insertEvent('outbox.events_000000000000001')],
    ['sluice_command', 'write', 'update outbox.relay set epoch = 9'],
    ['sluice_command', 'write', 'create table ledger.mine ()'],
    ['sluice_relay', 'write', insertEvent('outbox.events')],
    ['sluice_relay', 'write', 'delete from outbox.events'],
    ['sluice_relay', 'write', 'insert into outbox.relay default values'],
    ['sluice_relay', 'write', 'select * from ledger.accounts'],
    ['sluice_relay', 'write', 'update outbox.parked set type = type'],
    ['sluice_command', 'write', 'select * from outbox.parked_aggregates'],
    ['sluice_cdc', 'write', 'select * from outbox.parked'],
    ['sluice_relay', 'write', `select pg_create_logical_replication_slot('s', 'pgoutput')`],
    ['sluice_cdc', 'write', insertEvent('outbox.events')],
    ['sluice_cdc', 'write', 'select * from ledger.accounts'],
    ['sluice_maintenance', 'write', 'select * from ledger.accounts'],
    ['sluice_maintenance', 'write', 'update outbox.relay set next_position = 9'],
    ['sluice_maintenance', 'write', 'delete from outbox.gaps'],
    ['sluice_maintenance', 'write', 'delete from outbox.audit'],
    ['sluice_relay', 'write', 'drop table outbox.events_000000000000001'],
    ['sluice_relay', 'write', `update outbox.published_partitions set step = 'kept'`],
    ['sluice_query', 'write', 'select * from ledger.accounts'],
    ['sluice_projector', 'write', 'select * from outbox.events'],
    ['sluice_query', 'read', `update read.accounts set owner = 'x'`],
    ['sluice_query', 'read', 'delete from read.offsets'],
    ['sluice_projector', 'read', 'drop table read.accounts'],
    ['sluice_projector', 'read', 'create table read.mine ()'],
    ['sluice_command', 'read', 'select * from read.accounts'],
    ['sluice_relay', 'read', 'select * from read.offsets'],
  ]

  it.each(denied)('%s on the %s side: %s', async (role, side, text) => {
    await expect(run(databases[side](role), text)).rejects.toMatchObject({ code: '42501' })
  })

  it('and may do what is (control of the list above)', async () => {
    await run(databases.write('sluice_command'), insertEvent('outbox.events'))
    await run(databases.write('sluice_relay'), 'update outbox.relay set renewal = renewal + 1')
    await run(databases.write('sluice_cdc'), 'select * from outbox.events')
    await run(databases.read('sluice_projector'), 'delete from read.offsets')
    await run(databases.read('sluice_query'), 'select * from read.accounts')
  })
})
