import assert from 'node:assert'
import { waitUntil } from 'local-stack/wait-until'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { connect, type Session, type TestOutbox, testOutbox } from '../test-outbox.ts'
import { maintenanceSession } from './maintenance.ts'
import { detachPartition, makePartition } from './partitions.ts'
import { fill, makeSmall, namesOf, partitionsOf, size } from './test-partitions.ts'

// What `partitions.ts` does not use, and why not: each of these is the shorter way.

let outbox: TestOutbox
beforeEach(async () => {
  outbox = await testOutbox()
  await makeSmall(outbox)
})
afterEach(() => outbox[Symbol.asyncDispose]())

const maintainer = () => connect(outbox.maintenanceUrl, maintenanceSession)
const pidOf = async ({ client }: Session) => {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  return rows[0]?.pid
}
async function partition(wanted: string) {
  const found = (await partitionsOf(outbox)).all.find(({ name }) => name === wanted)
  assert(found !== undefined, wanted)
  return found
}
const range = (first: number) => ({ first: BigInt(first), last: BigInt(first + size - 1) })

describe('beside an insert that is not committed', () => {
  test.each([
    ['DROP of a partition', 'drop table outbox.events_000000000000101'],
    [
      'CREATE TABLE ... PARTITION OF',
      'create table outbox.events_next partition of outbox.events for values from (501) to (601)',
    ],
  ])('%s waits, and every command waits behind it', async (_what, statement) => {
    await using open = await outbox.writer()
    await using command = await outbox.writer()
    await using naive = await maintainer()
    await using superuser = await outbox.superuser()
    const [commandPid, naivePid] = [await pidOf(command), await pidOf(naive)]
    const waitsFor = async (waiting: unknown, whose: unknown) => {
      const { rows } = await superuser.client.query<{ waits: boolean }>(
        'select $2::int = any (pg_blocking_pids($1::int)) as waits',
        [waiting, whose],
      )
      return rows[0]?.waits === true
    }
    await open.sql('begin')
    await fill(open, 1)
    const refused = naive.sql(statement).catch((error: unknown) => error)
    const openPid = await pidOf(open)
    await waitUntil(() => waitsFor(naivePid, openPid), { what: 'it to wait', intervalMs: 5 })
    const answered = fill(command, 1)
    await waitUntil(() => waitsFor(commandPid, naivePid), { what: 'the queue', intervalMs: 5 })
    expect(await refused).toMatchObject({ code: '55P03' })
    // Only the lock_timeout lets it through; the insert before it is still open.
    await answered
    await open.sql('rollback')
  })

  test('our own way waits for nothing that is not its own', async () => {
    await using open = await outbox.writer()
    await using command = await outbox.writer()
    await using ours = await maintainer()
    await open.sql('begin')
    await fill(open, 1)
    await makePartition(ours.client, range(501))
    const gone = await partition('events_000000000000101')
    // Made invisible, then waits for those that may see it: nobody waits behind that.
    await expect(detachPartition(ours.client, gone)).rejects.toMatchObject({ code: '55P03' })
    await fill(command, 1)
    expect(await namesOf(outbox)).toContain('101 pending')
    await open.sql('rollback')
    await detachPartition(ours.client, { ...gone, state: 'pending' })
    expect(await namesOf(outbox)).toContain('101 detached')
  })
})

describe('beside a default partition', () => {
  beforeEach(async () => {
    await using naive = await maintainer()
    await naive.sql('create table outbox.events_rest partition of outbox.events default')
  })

  test('DETACH CONCURRENTLY is refused', async () => {
    await using ours = await maintainer()
    const first = await partition('events_000000000000001')
    await expect(detachPartition(ours.client, first)).rejects.toMatchObject({
      code: '55000',
      message: expect.stringMatching(/concurrently when a default partition exists/),
    })
  })

  test('a range that it has rows of cannot be made any more', async () => {
    await using writer = await outbox.writer()
    await using ours = await maintainer()
    await fill(writer, 510)
    await expect(makePartition(ours.client, range(501))).rejects.toMatchObject({
      code: '23514',
      message: expect.stringMatching(/default partition .* would be violated/),
    })
    await makePartition(ours.client, range(601))
  })
})
