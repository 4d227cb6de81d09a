import { waitUntil } from 'local-stack/wait-until'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type TestOutbox, testOutbox } from '../test-outbox.ts'
import type { RelayProcess } from '../test-relay.ts'
import { diesBeforeAttach, diesBeforeDrop, startMaintainer } from './test-maintainer.ts'
import { fill, makeSmall, namesOf, publishTo } from './test-partitions.ts'

// Maintenance as whole relays do it, by schedule.

let outbox: TestOutbox
beforeEach(async () => {
  outbox = await testOutbox()
  await makeSmall(outbox)
})
afterEach(() => outbox[Symbol.asyncDispose]())

async function insert(count: number): Promise<void> {
  await using writer = await outbox.writer()
  await fill(writer, count)
}

async function published(next: number): Promise<void> {
  await using superuser = await outbox.superuser()
  await publishTo(superuser, next)
}

const become = (names: readonly string[]) =>
  waitUntil(async () => String(await namesOf(outbox)) === String(names), {
    what: `the partitions ${String(names)}`,
    deadlineMs: 20_000,
  })

const five = ['1', '101', '201', '301', '401']
const killed = { code: null, signal: 'SIGKILL' }

test('killed between detach and drop: the next relay drops it, and goes on', async () => {
  await insert(310)
  await published(311)
  await using first = await startMaintainer(outbox, [diesBeforeDrop])
  expect(await first.exited).toEqual(killed)
  expect(await namesOf(outbox)).toEqual(['101', '201', '301', '401', '501', '1 detached'])
  await using relays = new AsyncDisposableStack()
  relays.use(await startMaintainer(outbox))
  await become(['301', '401', '501'])
}, 60_000)

test('killed between create and attach: nothing is left of it, and the next relay makes it', async () => {
  await insert(310)
  await using first = await startMaintainer(outbox, [diesBeforeAttach])
  expect(await first.exited).toEqual(killed)
  await using relays = new AsyncDisposableStack()
  relays.use(await startMaintainer(outbox))
  await become(['1', '101', '201', '301', '401', '501'])
}, 60_000)

/** What is left once the first `count` positions are published: as much again as was made ahead. */
const after = (count: number) =>
  count < 300 ? five.slice(count / 100) : [0, 1].map((n) => String(count + 1 + n * 100))

test('two relays: each partition is made and retired once, none complains, and both stop', async () => {
  await using first = await startMaintainer(outbox)
  await using second = await startMaintainer(outbox)
  const relays: RelayProcess[] = [first, second]
  for (let count = 100; count <= 900; count += 100) {
    await insert(100)
    await published(count + 1)
    await become(after(count))
  }
  const lines = relays.flatMap((relay) => relay.lines)
  expect(lines.filter(({ event }) => event === 'maintenance_failed')).toEqual([])
  await using superuser = await outbox.superuser()
  const { rows } = await superuser.client.query(
    `select before from outbox.audit where action = 'partition_retired'`,
  )
  expect(rows).toHaveLength(9)
  for (const relay of relays) {
    expect(await relay.stop('SIGTERM')).toEqual({ code: 0, signal: null })
  }
}, 60_000)

test('GET /relay tells what there is, and /readyz fails when commands are about to', async () => {
  await insert(450)
  await using alone = await startMaintainer({ ...outbox, maintenanceUrl: '' })
  const ready = () => fetch(`${alone.url}/readyz`)
  expect(alone.logged('no_maintenance')).toBeDefined()
  expect(await alone.status()).toMatchObject({
    partitions: { count: 5, ahead: 0, from: '1', lastRun: null },
  })
  const answer = await ready()
  expect(answer.status).toBe(503)
  expect(await answer.text()).toContain('0 partitions of outbox.events lie ahead of position 450')
  const metrics = await (await fetch(`${alone.url}/metrics`)).text()
  expect(metrics).toMatch(/^sluice_relay_partitions_ahead\{[^}]*\} 0$/m)
  expect(metrics).toMatch(/^sluice_relay_partition_alarms\{[^}]*\} 1$/m)
  await using maintainer = await startMaintainer(outbox)
  await become(['1', '101', '201', '301', '401', '501', '601'])
  expect((await ready()).status).toBe(200)
  const { partitions } = await maintainer.status()
  expect(partitions).toMatchObject({ count: 7, ahead: 2, alarms: [] })
  expect(partitions.lastRun).not.toBeNull()
}, 60_000)
