import { Client } from 'pg'
import { expect, test } from 'vitest'
import { testDatabases } from './test-databases.ts'

async function connected(url: string) {
  const client = new Client({ connectionString: url })
  // The server ends it when a database is dropped with force.
  client.on('error', () => {})
  await client.connect()
  return { client, [Symbol.asyncDispose]: () => client.end() }
}

test('each test has databases of its own, migrated, and open to the roles', async () => {
  await using one = await testDatabases()
  await using other = await testDatabases()
  expect(one.write()).not.toBe(other.write())
  await using relay = await connected(one.write('sluice_relay'))
  const { rows } = await relay.client.query('select count(*)::int as events from outbox.events')
  expect(rows).toEqual([{ events: 0 }])
  await using query = await connected(one.read('sluice_query'))
  await expect(query.client.query('select current_user as who')).resolves.toMatchObject({
    rows: [{ who: 'sluice_query' }],
  })
})

test('a clone grants on the database as a whole what its template grants, and no more', async () => {
  await using databases = await testDatabases()
  await using relay = await connected(databases.write('sluice_relay'))
  await expect(relay.client.query('create temporary table t (a int)')).rejects.toThrow(/temporary/)
  await using migrator = await connected(databases.write('sluice_migrator'))
  await migrator.client.query('create schema of_the_migrator')
})

test('a connection left open fails the test that left it', async () => {
  const databases = await testDatabases()
  await using forgotten = await connected(databases.write('sluice_command'))
  await forgotten.client.query('select 1')
  await expect(databases[Symbol.asyncDispose]()).rejects.toThrow(/left 1 connections open/)
})
