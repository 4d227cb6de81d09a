import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openCursor } from '../cursor.ts'
import { readingSession, type TestOutbox, testOutbox } from '../test-outbox.ts'
import { alarmsOf, waitingFor } from './plan.ts'
import {
  atOnce,
  fill,
  maintainOnce,
  makeSmall,
  namesOf,
  partitionsOf,
  publishTo,
} from './test-partitions.ts'

let outbox: TestOutbox
beforeEach(async () => {
  outbox = await testOutbox()
  await makeSmall(outbox)
})
afterEach(() => outbox[Symbol.asyncDispose]())

const slot = 'retention_test'
const five = ['1', '101', '201', '301', '401']

describe('a partition goes', () => {
  test('only once it is published, passed by every slot, and old enough', async () => {
    await using superuser = await outbox.superuser()
    await using writer = await outbox.writer()
    await fill(writer, 310)
    expect(await maintainOnce(outbox)).toMatchObject({ retired: [] })
    expect(await namesOf(outbox)).toEqual([...five, '501'])
    await superuser.sql(`select pg_create_logical_replication_slot('${slot}', 'pgoutput')`)
    try {
      // Commits behind which the slot stays.
      await fill(writer, 1)
      await publishTo(superuser, 312)
      expect(await maintainOnce(outbox)).toMatchObject({ retired: [] })
      expect(await namesOf(outbox)).toEqual([...five, '501'])
      const kept = await partitionsOf(outbox)
      expect(kept.all.map(({ record }) => record?.slotBehind)).toEqual([
        slot,
        slot,
        slot,
        undefined,
        undefined,
        undefined,
      ])
      await superuser.sql(
        `select pg_replication_slot_advance('${slot}', pg_current_wal_insert_lsn())`,
      )
      expect(await maintainOnce(outbox, { retentionSeconds: 3_600 })).toMatchObject({ retired: [] })
      expect(await maintainOnce(outbox)).toMatchObject({
        retired: ['events_000000000000001', 'events_000000000000101', 'events_000000000000201'],
      })
      expect(await namesOf(outbox)).toEqual(['301', '401', '501'])
    } finally {
      await superuser.sql(`select pg_drop_replication_slot('${slot}')`)
    }
    const { rows } = await superuser.client.query<{ action: string }>(
      `select action from outbox.audit where before = 'events_000000000000101' order by id`,
    )
    expect(rows.map(({ action }) => action)).toEqual(['partition_retiring', 'partition_retired'])
  }, 60_000)

  test('not while a gap in it is open, which keeps no other', async () => {
    await using superuser = await outbox.superuser()
    await using writer = await outbox.writer()
    await fill(writer, 310)
    await publishTo(superuser, 311)
    await superuser.sql('insert into outbox.gaps values (200, 200)')
    await maintainOnce(outbox)
    expect(await namesOf(outbox)).toEqual(['101', '301', '401', '501'])
    await superuser.sql('delete from outbox.gaps')
    await maintainOnce(outbox)
    expect(await namesOf(outbox)).toEqual(['301', '401', '501'])
  })

  test('before its time, oldest first, while the outbox is larger than it may be', async () => {
    await using superuser = await outbox.superuser()
    await using writer = await outbox.writer()
    await fill(writer, 310)
    await publishTo(superuser, 311)
    const { all } = await partitionsOf(outbox)
    const bytes = all.reduce((sum, each) => sum + each.bytes, 0)
    // What is made ahead counts too.
    const made = all[4]!.bytes
    await maintainOnce(outbox, { retentionSeconds: 3_600, maxBytes: bytes + made - 1 })
    expect(await namesOf(outbox)).toEqual(['101', '201', '301', '401', '501'])
  })
})

describe('partitions are made', () => {
  test('ahead of the last position drawn, of the size asked for, and commands go on in them', async () => {
    await using writer = await outbox.writer()
    await fill(writer, 500)
    await expect(fill(writer, 1)).rejects.toMatchObject({ code: '23514' })
    expect(alarmsOf(await partitionsOf(outbox), atOnce)).toMatchObject([
      { code: 'partitions_few', isCritical: true },
    ])
    // The failed command has drawn position 501.
    expect(await maintainOnce(outbox, { positions: 1_000n, ahead: 3 })).toMatchObject({
      made: [
        'events_000000000000501',
        'events_000000000001501',
        'events_000000000002501',
        'events_000000000003501',
      ],
    })
    expect(await fill(writer, 1)).toEqual([502n])
    expect(alarmsOf(await partitionsOf(outbox), atOnce)).toEqual([])
    await expect(
      writer.sql('insert into outbox.events_000000000000501 default values'),
    ).rejects.toMatchObject({ code: '42501' })
  })
})

test('polling looks only at partitions from its progress on, and never at retired ones', async () => {
  await using superuser = await outbox.superuser()
  await using writer = await outbox.writer()
  await fill(writer, 310)
  await publishTo(superuser, 201)
  await maintainOnce(outbox)
  await using session = await readingSession(outbox.relayUrl)
  const cursor = openCursor(session.client)
  await cursor.read({ next: 301n, gaps: [] })
  const { rows } = await session.client.query<{ 'QUERY PLAN': string }>(
    `explain (analyze, costs off, timing off) execute "relay-read"
       (301, '{}', '{}', 1000, 1000, 8000000)`,
  )
  const plan = rows.map((row) => row['QUERY PLAN']).join('\n')
  const looked = [...plan.matchAll(/on events_0*(\d+) .*actual rows/g)].map((match) => match[1])
  expect(plan).not.toMatch(/Seq Scan|Bitmap|events_0+1 |events_0+101 /)
  // The gaps' half of the statement is not run for want of gaps; 201 is pruned from the tail.
  expect(new Set(looked)).toEqual(new Set(['301', '401', '501']))
  expect(plan).toContain('Subplans Removed: 1')
})

describe('cut off in the middle', () => {
  test('a detach that an old transaction holds back is finished by a later run', async () => {
    await using superuser = await outbox.superuser()
    await using writer = await outbox.writer()
    await using open = await outbox.superuser()
    await fill(writer, 310)
    await publishTo(superuser, 311)
    await open.sql('begin')
    await open.client.query('select from outbox.events where position = 7 for update')
    const run = await maintainOnce(outbox)
    expect(run.retired).toEqual([])
    expect(run.heldBack).toContain('events_000000000000001')
    expect(await namesOf(outbox)).toContain('1 pending')
    await fill(writer, 5)
    const held = await partitionsOf(outbox)
    expect(alarmsOf(held, atOnce)).toEqual([])
    expect(waitingFor(held, atOnce)).toMatch(/0001: a transaction that uses outbox.events is open/)
    await open.sql('commit')
    await maintainOnce(outbox)
    expect(await namesOf(outbox)).toEqual(['301', '401', '501'])
  }, 60_000)

  test('what progress steps back into while it is detached is held for a person', async () => {
    await using superuser = await outbox.superuser()
    await using writer = await outbox.writer()
    await using open = await outbox.superuser()
    await fill(writer, 150)
    await publishTo(superuser, 151)
    await open.sql('begin')
    await open.client.query('select from outbox.events where position = 7 for update')
    await maintainOnce(outbox)
    await open.sql('commit')
    await publishTo(superuser, 1)
    expect(alarmsOf(await partitionsOf(outbox), atOnce)).toMatchObject([
      { code: 'partition_apart', isCritical: true },
    ])
    expect(await maintainOnce(outbox)).toMatchObject({ held: ['events_000000000000001'] })
    // A relay has passed over the rows that it could not see: that does not settle it.
    await publishTo(superuser, 151)
    expect(await maintainOnce(outbox)).toMatchObject({ held: [], retired: [] })
    const [alarm] = alarmsOf(await partitionsOf(outbox), atOnce)
    expect(alarm).toMatchObject({ code: 'partition_apart', isCritical: true })
    // What the alarm says to do.
    await superuser.sql(
      'alter table outbox.events detach partition outbox.events_000000000000001 finalize',
    )
    await superuser.sql(/alter table outbox.events attach .*?\)(?=\))/.exec(alarm!.text)![0])
    expect(await namesOf(outbox)).toContain('1')
    await maintainOnce(outbox)
    expect(await namesOf(outbox)).not.toContain('1')
  }, 60_000)

  test('what somebody else detached is told of, and not dropped', async () => {
    await using superuser = await outbox.superuser()
    await using writer = await outbox.writer()
    await fill(writer, 110)
    await superuser.sql('alter table outbox.events detach partition outbox.events_000000000000001')
    await publishTo(superuser, 111)
    await maintainOnce(outbox)
    expect(await namesOf(outbox)).toContain('1 detached')
    expect(alarmsOf(await partitionsOf(outbox), atOnce)).toMatchObject([
      { code: 'partition_apart' },
    ])
  })
})

test('two that run at once, as if both were elected, drop each partition once', async () => {
  await using superuser = await outbox.superuser()
  await using writer = await outbox.writer()
  await fill(writer, 310)
  await publishTo(superuser, 311)
  // One may be refused what the other is doing; neither undoes it.
  await Promise.allSettled([maintainOnce(outbox), maintainOnce(outbox)])
  await maintainOnce(outbox)
  expect(await namesOf(outbox)).toEqual(['301', '401', '501'])
  const { rows } = await superuser.client.query<{ before: string }>(
    `select before from outbox.audit where action = 'partition_retired' order by before`,
  )
  expect(rows.map(({ before }) => Number(before.slice(-3)))).toEqual([1, 101, 201])
})
