import { waitUntil } from 'local-stack'
import { testDatabases } from 'local-stack/test-databases'
import { Client } from 'pg'
import { expect, test } from 'vitest'
import { ProgressWatch } from './progress-watch.ts'
import { readTables } from './tables.ts'

test('a watch whose connection was ended looks again; one whose look is refused fails', async () => {
  await using databases = await testDatabases()
  const writeUrl = databases.write()
  const admin = new Client({ connectionString: writeUrl })
  await admin.connect()
  await using cleanup = new AsyncDisposableStack()
  cleanup.defer(() => admin.end())
  const watch = new ProgressWatch(writeUrl)
  await waitUntil(() => watch.samples.length === 1, { what: 'the first look' })
  await admin.query(`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()`)
  await admin.query('update outbox.relay set next_position = 7')
  await waitUntil(() => watch.samples.at(-1)?.next === 7n, { what: 'a look after the end' })
  await admin.query('drop table outbox.gaps')
  const others = `select from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()`
  const gone = async () => (await admin.query(others)).rowCount === 0
  await waitUntil(gone, { what: 'the watch to give up' })
  await expect(watch[Symbol.asyncDispose]()).rejects.toThrow('outbox.gaps')
})

test('the columns that are read are there on both sides', async () => {
  await using databases = await testDatabases()
  const sides = { writeUrl: databases.write(), readUrl: databases.read() }
  expect(await readTables(sides)).toMatchObject({ accounts: [], readAccounts: [] })
})
