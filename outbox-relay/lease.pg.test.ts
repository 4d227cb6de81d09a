import { waitUntil } from 'local-stack/wait-until'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { awaitLease, type Lease } from './lease.ts'
import { progressFrom } from './progress.ts'
import { loadProgress, readRelayRow, saveProgress } from './relay-table.ts'
import { type TestOutbox, testOutbox } from './test-outbox.ts'

let outbox: TestOutbox
let stop: AbortController
beforeEach(async () => {
  outbox = await testOutbox()
  stop = new AbortController()
})
afterEach(() => outbox[Symbol.asyncDispose]())

const now = () => performance.now()
const noGaps = { closed: [], opened: [] }

function candidate(me: string, leaseMs = 400) {
  const failures: unknown[] = []
  const options = {
    db: outbox.pool,
    me,
    leaseMs,
    now,
    onRenewalFailed: (error: unknown) => failures.push(error),
  }
  return { failures, lease: () => awaitLease(options, stop.signal) }
}

async function taken(promise: Promise<Lease | undefined>): Promise<Lease> {
  const lease = await promise
  if (lease === undefined) throw new Error('stopped before it led')
  return lease
}

test('of two candidates one leads, and the other stands by as long as the first renews', async () => {
  const [first, second] = [candidate('first', 800), candidate('second', 800)]
  await using lease = await taken(first.lease())
  expect(lease.epoch).toBe('1')
  let secondLeads = false
  const standing = second.lease().then((other) => {
    secondLeads = other !== undefined
    return other?.[Symbol.asyncDispose]()
  })
  // Three times the lease, in renewals that the table shows.
  const renewals = async () => Number((await readRelayRow(outbox.pool)).renewal)
  await waitUntil(async () => (await renewals()) >= 10, { what: 'renewals', deadlineMs: 10_000 })
  expect(secondLeads).toBe(false)
  lease.assertHeld()
  stop.abort()
  await standing
})

test('candidates who race for a free lease get one leader', async () => {
  const racing = ['a', 'b', 'c', 'd'].map((me) => candidate(me, 5_000).lease())
  await using winner = await taken(Promise.race(racing))
  expect(winner.epoch).toBe('1')
  expect((await readRelayRow(outbox.pool)).epoch).toBe('1')
  stop.abort()
  const all = await Promise.all(racing)
  expect(all.filter((lease) => lease !== undefined)).toHaveLength(1)
})

test('a lease given back is taken at once by whoever stands by', async () => {
  const lease = await taken(candidate('first', 60_000).lease())
  const successor = candidate('second', 60_000).lease()
  const sinceMs = now()
  await lease[Symbol.asyncDispose]()
  await using next = await taken(successor)
  expect(next.epoch).toBe('2')
  expect(now() - sinceMs).toBeLessThan(5_000)
})

test('a leader that stopped renewing is replaced, and what it saves then is nothing', async () => {
  // As a paused process is: its epoch is taken and nothing renews it.
  await outbox.pool.query("update outbox.relay set leader = 'paused', epoch = 7, renewal = 30")
  await using next = await taken(candidate('next').lease())
  expect(next.epoch).toBe('8')
  expect(await saveProgress(outbox.pool, '8', { from: 1n, next: 50n, gaps: noGaps })).toBe(true)
  const gaps = { closed: [], opened: [{ first: 3n, last: 4n, holders: null }] }
  expect(await saveProgress(outbox.pool, '7', { from: 50n, next: 90n, gaps })).toBe(false)
  expect(await loadProgress(outbox.pool)).toEqual({ next: 50n, gaps: [] })
})

test('a leader that sees another epoch has lost its lease, and does not give that one back', async () => {
  const lease = await taken(candidate('first').lease())
  await outbox.pool.query("update outbox.relay set leader = 'second', epoch = epoch + 1")
  await waitUntil(() => lease.lost.aborted, { what: 'the loss to be noticed' })
  expect(() => lease.assertHeld()).toThrow(expect.objectContaining({ code: 'lease_lost' }))
  await lease[Symbol.asyncDispose]()
  expect((await readRelayRow(outbox.pool)).leader).toBe('second')
})

test('of two leaders of one epoch, which a restored row makes, only the later one goes on', async () => {
  const lease = await taken(candidate('first').lease())
  // An older row is back, and another relay has counted on from it: to the same epoch.
  await outbox.pool.query("update outbox.relay set leader = 'second', renewal = 0")
  await waitUntil(() => lease.lost.aborted, { what: 'the loss to be noticed' })
  await lease[Symbol.asyncDispose]()
  expect(await readRelayRow(outbox.pool)).toMatchObject({ leader: 'second', epoch: lease.epoch })
})

test('what a leader saves to tables that are not as it left them is nothing', async () => {
  await using lease = await taken(candidate('first', 60_000).lease())
  await saveProgress(outbox.pool, lease.epoch, { from: 1n, next: 50n, gaps: noGaps })
  await outbox.pool.query('update outbox.relay set next_position = 20')
  const changes = { from: 50n, next: 60n, gaps: noGaps }
  expect(await saveProgress(outbox.pool, lease.epoch, changes)).toBe(false)
  expect(await loadProgress(outbox.pool)).toEqual({ next: 20n, gaps: [] })
})

test('a leader that cannot reach Postgres stops holding its lease when it runs out', async () => {
  const first = candidate('first')
  const lease = await taken(first.lease())
  await using superuser = await outbox.superuser()
  // Renewals wait for this row until they time out.
  await superuser.sql('begin; select from outbox.relay for update')
  await waitUntil(() => lease.lost.aborted, { what: 'the lease to run out' })
  expect(() => lease.assertHeld()).toThrow(/not renewed within 400 ms/)
  await superuser.sql('rollback')
  await lease[Symbol.asyncDispose]()
})

test('the first leader records the server, and another server is refused', async () => {
  const lease = await taken(candidate('first').lease())
  const row = await readRelayRow(outbox.pool)
  expect(row.systemIdentifier).toBe(row.serverIdentifier)
  expect(row.serverIdentifier).toMatch(/^\d+$/)
  await lease[Symbol.asyncDispose]()
  await outbox.pool.query("update outbox.relay set system_identifier = '1'")
  await expect(candidate('next').lease()).rejects.toMatchObject({ code: 'foreign_server' })
  expect((await readRelayRow(outbox.pool)).leader).toBeNull()
})

test('progress is saved as what changed, and comes back as it was', async () => {
  const lease = await taken(candidate('first', 60_000).lease())
  const open = (first: bigint, last: bigint) => ({ first, last, holders: null })
  const opened = [open(2n, 4n), open(6n, 6n), open(9n, 12n)]
  await saveProgress(outbox.pool, lease.epoch, {
    from: 1n,
    next: 20n,
    gaps: { closed: [], opened },
  })
  expect(await loadProgress(outbox.pool)).toEqual(
    progressFrom(20n, [
      [2n, 4n],
      [6n, 6n],
      [9n, 12n],
    ]),
  )
  // 3 was published, 6 closed, 9 published, 12 closed.
  const changes = { closed: [6n, 9n], opened: [open(2n, 2n), open(4n, 4n), open(10n, 11n)] }
  await saveProgress(outbox.pool, lease.epoch, { from: 20n, next: 21n, gaps: changes })
  expect(await loadProgress(outbox.pool)).toEqual(
    progressFrom(21n, [
      [2n, 2n],
      [4n, 4n],
      [10n, 11n],
    ]),
  )
  await lease[Symbol.asyncDispose]()
})

test('a missing row is said, not healed: progress would begin anew in silence', async () => {
  await using superuser = await outbox.superuser()
  await superuser.sql('delete from outbox.relay')
  await expect(candidate('first').lease()).rejects.toMatchObject({ code: 'relay_row_missing' })
})
