import { waitUntil } from 'local-stack/wait-until'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Sweep } from './leftovers.ts'
import type { Names } from './names.ts'
import { createSlot, dropSlots, withCdc } from './slots.ts'
import { connect, type Session, testNames, type TestOutbox, testOutbox } from './test-outbox.ts'
import { ownServers } from './test-server.ts'
import { openSlot } from './wal/test-log-reader.ts'
import { ownServer } from './wal/test-own-server.ts'
import { slotNames } from './wal/test-wal-relay.ts'

let outbox: TestOutbox
let superuser: Session
let names: Names
beforeEach(async () => {
  outbox = await testOutbox()
  superuser = await outbox.superuser()
  names = await testNames(outbox, '7')
})
afterEach(async () => {
  const dropped = async () => {
    await superuser.sql(`select pg_drop_replication_slot(slot_name) from pg_replication_slots
      where database = current_database() and active_pid is null`)
    return (await slotNames(superuser)).length === 0
  }
  await waitUntil(dropped, { what: 'the slots to be dropped' })
  await superuser[Symbol.asyncDispose]()
  await outbox[Symbol.asyncDispose]()
})

const make = (name: string) =>
  superuser.sql(`select pg_create_logical_replication_slot('${name}', 'pgoutput')`)
const remain = (wanted: string[]) =>
  waitUntil(async () => (await slotNames(superuser)).join() === wanted.join(), {
    what: `the slots to be ${wanted.join()}`,
  })

const quiet = () => {}

// A leader that is paused while it connects has lost its lease when it wakes.
test('a leader that lost its lease while it connected makes no permanent slot', async () => {
  const lost = new AbortController()
  const making = withCdc({ url: outbox.cdcUrl, names, signal: lost.signal }, (client) =>
    createSlot(client, names.slot),
  )
  lost.abort(new Error('the lease is lost'))
  await expect(making).rejects.toThrow('the lease is lost')
  const made = waitUntil(async () => (await slotNames(superuser)).length > 0, {
    what: 'a slot that nobody will remove',
    deadlineMs: 3_000,
  })
  await expect(made).rejects.toMatchObject({ code: 'deadline_passed' })
})

test('a leader that loses its lease while the slot is being made leaves none', async () => {
  await using writer = await outbox.writer()
  await writer.sql('begin')
  await writer.insert({ aggregateId: 'long', version: 1 })
  const lost = new AbortController()
  const making = withCdc({ url: outbox.cdcUrl, names, signal: lost.signal }, (client) =>
    createSlot(client, names.slot),
  )
  making.catch(() => {})
  await remain([names.slot])
  lost.abort(new Error('the lease is lost'))
  await expect(making).rejects.toThrow('the lease is lost')
  await remain([])
  await writer.sql('rollback')
})

test('what an earlier leader makes late is removed, what is in use or of a later one is not', async () => {
  const earlier = (await testNames(outbox, '6')).slot
  const later = (await testNames(outbox, '8')).slot
  await make(names.slot)
  await make(later)
  await make(earlier)
  await using _ = new Sweep({
    names,
    inUse: [names.slot],
    cdcUrl: outbox.cdcUrl,
    lease: { lost: new AbortController().signal },
    log: { warn: quiet, info: quiet, debug: quiet },
    intervalMs: 100,
  })
  await remain([names.slot, later])
  await make(earlier)
  await remain([names.slot, later])
})

test('a slot in use that cannot be removed, since no Connect is known, is said', async () => {
  const name = (await testNames(outbox, '6')).slot
  const { session } = await openSlot(outbox.cdcUrl, name)
  const said: unknown[] = []
  await using _ = new Sweep({
    names,
    cdcUrl: outbox.cdcUrl,
    lease: { lost: new AbortController().signal },
    log: { warn: (line: unknown) => said.push(line), info: quiet, debug: quiet },
  })
  await waitUntil(() => said.length > 0, { what: 'a line' })
  expect(said[0]).toMatchObject({ event: 'leftovers_kept', err: { code: 'slot_unusable' } })
  expect(await slotNames(superuser)).toEqual([name])
  await session[Symbol.asyncDispose]()
})

// Two servers give their databases the same oids, one after the other.
test.skipIf(!ownServers)(
  'a slot of another server is not touched, though its database has the same oid',
  async () => {
    await using other = await ownServer()
    await using there = await connect(other.url)
    const { rows } = await there.client.query<{ oid: string }>(
      'select oid::text from pg_database where datname = current_database()',
    )
    const { oid: database = '' } = rows[0] ?? {}
    const slot = `sluice_debezium_${database}_6`
    await there.sql(`select pg_create_logical_replication_slot('${slot}', 'pgoutput')`)
    const { signal } = new AbortController()
    const dropAs = ({ server }: Pick<Names, 'server'>) => {
      const place = { server, database }
      return withCdc({ url: other.url, names: place, signal }, (client) =>
        dropSlots(client, { names: place, upTo: 7n, endUse: true }),
      )
    }
    await expect(dropAs(names)).rejects.toMatchObject({
      code: 'slot_unusable',
      message: expect.stringMatching(/another server or database/),
    })
    expect(await slotNames(there)).toEqual([slot])
    // By that server's own name it goes: the name is what kept it.
    const { rows: identity } = await there.client.query<{ server: string }>(
      'select system_identifier::text as server from pg_control_system()',
    )
    await dropAs({ server: identity[0]?.server ?? '' })
    expect(await slotNames(there)).toEqual([])
  },
)
