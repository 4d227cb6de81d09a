import { randomUUID } from 'node:crypto'
import { testDatabases } from 'local-stack/test-databases'
import { openPool } from 'migrations/database'
import type { OutboxRow } from 'outbox-relay/wire'
import { afterAll, expect, test, vi } from 'vitest'
import { projectorSessionSettings } from '../projector.ts'
import { eventRow, historyOf, interleave, unstorableBalance } from '../test-events.ts'
import { openTcpProxy } from '../test-faults.ts'
import { isFoldOf, openTestPipe, patient, quarantined } from '../test-pipe.ts'
import { openFeed } from './feed.ts'
import { openTestFeed } from './test-feed.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(
  openPool({
    url: databases.read('sluice_projector'),
    applicationName: 'test',
    maxConnections: 8,
    settings: projectorSessionSettings,
    onError: () => {},
  }),
)
const commandApi = cleanup.use(await openTestFeed(databases))
afterAll(() => cleanup.disposeAsync())

const names = (count: number) => Array.from({ length: count }, () => `q-${randomUUID()}`)

/** A topic of its own with a projector on it; what is sent is what `delivered` leaves of the truth. */
async function newPipe({ url = commandApi.url, sweeps = false, repairs = true } = {}) {
  const pipe = await openTestPipe(pool)
  const feed = openFeed({ url, key: commandApi.key, timeoutMs: 1_000 })
  const { status } = pipe.start({
    ...(repairs ? { feed } : {}),
    ...(sweeps ? { sweep: { feed, everyMs: 150, heartbeatSeconds: 0 } } : {}),
  })
  return { status, publish: pipe.publish }
}

const mended = (histories: readonly OutboxRow[][]) =>
  vi.waitUntil(
    async () =>
      (await isFoldOf(pool, histories)) && Object.keys(await quarantined(pool)).length === 0,
    patient,
  )

test('a record left out of the topic: its account is repaired, and no partition stops', async () => {
  const ids = names(20)
  const histories = ids.map((id) => historyOf(id, 8))
  await commandApi.record(histories.flat())
  const { status, publish } = await newPipe()
  const lost = histories[3]![4]!
  await publish(interleave(histories).filter((row) => row !== lost))
  await mended(histories)
  expect(status.stopped.size).toBe(0)
  expect(Object.fromEntries(status.quarantine.entered)).toEqual({ version_gap: 1 })
  expect(status.quarantine).toMatchObject({ repaired: 1, restored: 0 })
})

test('another event under the same version: the feed`s history replaces it, and it is counted', async () => {
  const ids = names(10)
  const histories = ids.map((id) => historyOf(id, 6))
  await commandApi.record(histories.flat())
  const { status, publish } = await newPipe()
  const other = eventRow(ids[2]!, 3, { balance: '777' })
  const sent = histories.map((history, index) =>
    index === 2 ? [...history.slice(0, 2), other, ...history.slice(2)] : history,
  )
  await publish(interleave(sent))
  await mended(histories)
  expect(status.quarantine).toMatchObject({ repaired: 1, restored: 1 })
})

test('a lost last event, and an account lost as a whole, are found by the sweep', async () => {
  const ids = names(12)
  const histories = ids.map((id) => historyOf(id, 5))
  await commandApi.record(histories.flat())
  const { status, publish } = await newPipe({ sweeps: true })
  const whole = histories[5]!
  const sent = interleave(histories).filter(
    (row) => row !== histories[0]!.at(-1) && !whole.includes(row),
  )
  await publish(sent)
  await mended(histories)
  expect(status.quarantine.entered.get('lost_tail')).toBeGreaterThanOrEqual(2)
  expect(status.quarantine.entered.size).toBe(1)
})

test('an account that the feed does not know is found by the sweep, named and kept', async () => {
  const [known, strange] = names(2) as [string, string]
  const histories = [historyOf(known, 3), historyOf(strange, 2)]
  await commandApi.record(histories[0]!)
  const { status, publish } = await newPipe({ sweeps: true })
  await publish(histories.flat())
  await vi.waitUntil(async () => (await quarantined(pool))[strange] === 'version_conflict', patient)
  await vi.waitUntil(async () => {
    const { rows } = await pool.query<{ problem: string }>('select problem from read.quarantine')
    return rows.length === 1 && rows[0]!.problem === 'unknown_to_feed'
  }, patient)
  expect(await isFoldOf(pool, histories)).toBe(true)
  expect(status.stopped.size).toBe(0)
})

test('without a sweep a lost last event goes unseen: the test above is not blind', async () => {
  const [id] = names(1) as [string]
  const history = historyOf(id, 3)
  await commandApi.record(history)
  const { status, publish } = await newPipe()
  await publish(history.slice(0, 2))
  await vi.waitUntil(() => status.applied === 2 && status.lags.size === 3, patient)
  expect(await isFoldOf(pool, [history])).toBe(false)
  expect(await quarantined(pool)).toEqual({})
})

test('the feed away: the account waits, the others go on, and then it is mended', async () => {
  await using way = await openTcpProxy(commandApi.url)
  way.cut()
  const ids = names(10)
  const histories = ids.map((id) => historyOf(id, 6))
  await commandApi.record(histories.flat())
  const { status, publish } = await newPipe({ url: way.url })
  await publish(interleave(histories).filter((row) => row !== histories[0]![2]))
  await vi.waitUntil(() => status.quarantine.trouble !== undefined, patient)
  await vi.waitUntil(() => isFoldOf(pool, histories.slice(1)), patient)
  expect(await quarantined(pool)).toEqual({ [ids[0]!]: 'version_gap' })
  way.mend()
  await mended(histories)
  await vi.waitUntil(() => status.quarantine.trouble === undefined, patient)
})

test('without the feed`s settings accounts stay in quarantine, and it is said what to set', async () => {
  const [id, sound] = names(2) as [string, string]
  const { status, publish } = await newPipe({ repairs: false })
  await publish([...historyOf(id, 4).toSpliced(1, 1), ...historyOf(sound, 4)])
  await vi.waitUntil(() => status.quarantine.accounts === 1, patient)
  await vi.waitUntil(() => status.applied + status.held === 7, patient)
  expect(status.quarantine.trouble).toContain('COMMAND_API_KEY')
  expect(await quarantined(pool)).toEqual({ [id]: 'version_gap' })
  expect([status.applied, status.held, status.stopped.size]).toEqual([5, 2, 0])
})

test('one event in a hundred is bad, of every kind: the rest goes on, and all is mended', async () => {
  const ids = names(60)
  const histories = ids.map((id) => historyOf(id, 20))
  await commandApi.record(histories.flat())
  const { status, publish } = await newPipe()
  // Every kind of harm, to a version from 4 on of every fifth account.
  const sent = histories.map((history, index) => {
    if (index % 5 !== 0) return history
    const at = 3 + (index % 15)
    const version = at + 1
    // The third is seen by nobody: events behind it make up for it. The others are quarantined.
    const harm: OutboxRow[][] = [
      [],
      [eventRow(ids[index]!, version, { type: 'Tomorrow.v9' })],
      [eventRow(ids[index]!, version, { balance: '555' })],
      [history[at]!, eventRow(ids[index]!, version, { balance: '444' })],
    ]
    return history.toSpliced(at, 1, ...harm[(index / 5) % 4]!)
  })
  await publish(interleave(sent))
  await mended(histories)
  expect(status.stopped.size).toBe(0)
  const entered = [...status.quarantine.entered.values()].reduce((sum, count) => sum + count, 0)
  expect(entered).toBeGreaterThanOrEqual(9)
})

test('an event that the database refuses: its account waits alone, as long as it is so', async () => {
  const ids = names(30)
  const histories = ids.map((id) => historyOf(id, 5))
  const poisoned = [
    ...histories[7]!.slice(0, 4),
    eventRow(ids[7]!, 5, { balance: unstorableBalance }),
  ]
  await commandApi.record(histories.with(7, poisoned).flat())
  const { status, publish } = await newPipe()
  await publish(interleave(histories.with(7, poisoned)))
  await vi.waitUntil(() => isFoldOf(pool, histories.toSpliced(7, 1)), patient)
  await vi.waitUntil(async () => (await quarantined(pool))[ids[7]!] === 'apply_failed', patient)
  expect(Object.keys(await quarantined(pool))).toEqual([ids[7]])
  expect(await isFoldOf(pool, [histories[7]!.slice(0, 4)])).toBe(true)
  expect(status.stopped.size).toBe(0)
})
