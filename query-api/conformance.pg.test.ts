import { eventSchemas } from 'command-api/events'
import fc from 'fast-check'
import { testDatabases } from 'local-stack/test-databases'
import { openPool } from 'migrations/database'
import type { OutboxRow } from 'outbox-relay/wire'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import type { ProjectedEvent, Projection } from './projection.ts'
import { readModels } from './projections/table.ts'
import { openFeed } from './quarantine/feed.ts'
import { repairAccount } from './quarantine/repair.ts'
import { openTestFeed } from './quarantine/test-feed.ts'
import { eventRow, projected, unstorableBalance } from './test-events.ts'
import { openTestLog } from './test-log.ts'
import { openProjectorPool } from './test-pools.ts'
import { type Harmed, withGaps, withOtherHistories } from './test-harm.ts'
import { atLeastOnce, drawsOf, storyOf, strayEvent } from './test-story.ts'
import { allIsWell, openLooks } from './test-view.ts'

// What holds for every projection of the table, whatever it keeps: once the log has come through, its
// tables are those that each event makes once, one at a time and in order; or it names the accounts
// that it waits for. What needs Kafka for that is in conformance.kafka.test.ts; that one event makes
// the right thing is in each projection's own tests.

const cleanup = new AsyncDisposableStack()
afterAll(() => cleanup.disposeAsync())
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(openProjectorPool(databases, { maxConnections: 12 }))
const emptyPool = cleanup.use(openProjectorPool(cleanup.use(await testDatabases())))
const commandApi = cleanup.use(await openTestFeed(databases))
const feed = openFeed(commandApi)
const owner = cleanup.use(
  openPool({
    url: databases.read(),
    applicationName: 'test',
    maxConnections: 1,
    onError: () => {},
  }),
)

const story = storyOf(42, { accounts: 24, steps: 330 })
const events = story.map(projected)
await commandApi.record(story)

async function forgetEverything(): Promise<void> {
  const { rows } = await owner.query<{ tables: string }>(
    `select string_agg('read.' || relname, ', ') as tables from pg_class
      where relnamespace = 'read'::regnamespace and relkind = 'r'`,
  )
  await owner.query(`truncate ${rows[0]!.tables}`)
}

beforeEach(forgetEverything)

const looks = new Map(
  readModels.map(({ projection }) => [
    projection.name,
    openLooks({ pool, emptyPool, projections: [projection] }),
  ]),
)
const looksAt = ({ name }: Projection) => looks.get(name)!

/** Until nothing is waited for, or nothing helps. */
async function repairAll(projection: Projection): Promise<void> {
  const { signal } = new AbortController()
  for (let round = 0; round < 2; round += 1) {
    const { rows } = await pool.query<{ id: string }>(
      'select account_id as id from read.quarantine order by 1',
    )
    for (const { id } of rows) await repairAccount({ pool, projection, feed, signal }, id)
  }
}

const namedBy = ({ name }: Projection, accounts: ReadonlySet<string>) =>
  [...accounts].map((account) => `${name} ${account}`).toSorted()

/** Every event at least twice, cut anywhere. */
async function deliverAgainAndAgain(projection: Projection, seed: number) {
  const log = openTestLog(pool, atLeastOnce(story, drawsOf(seed)))
  return { sums: await log.consume(projection, seed), look: await looksAt(projection).look(events) }
}

async function repairAfter(projection: Projection, { rows, accounts }: Harmed, seed: number) {
  await openTestLog(pool, rows).consume(projection, seed)
  const { look } = looksAt(projection)
  const before = await look(events)
  await repairAll(projection)
  return { before, after: await look(events, accounts) }
}

/** Accounts whose second event one or the other table cannot hold: too large, or with a zero byte. */
function refusedEvents(): OutboxRow[] {
  const zero = 'a\u0000b'
  return [
    ['FundsDeposited.v1', { after: { ledgerBalance: unstorableBalance } }],
    ['FundsDeposited.v1', { reference: zero }],
    ['FundsTransferredOut.v1', { reference: zero }],
    ['HoldPlaced.v1', { reference: zero }],
    ['AccountFrozen.v1', { reason: zero }],
    ['AccountDetailsUpdated.v1', { owner: zero }],
    ['AccountDetailsUpdated.v1', { metadata: { note: zero } }],
  ].flatMap(([type, spoilt], index) => {
    const account = `story-refused-${index}`
    const like = story.find((row) => row[5] === type)!
    const event = strayEvent(like, { account, version: 2, before: [] })
    const { after, ...payload } = JSON.parse(event[12])
    const { after: otherAfter, ...other } = spoilt as { after?: object }
    const said = { ...payload, ...other, after: { ...after, ...otherAfter } }
    return [eventRow(account, 1), event.with(12, JSON.stringify(said)) as unknown as OutboxRow]
  })
}

const seeds = fc.nat({ max: 1_000_000 })

test('the story has every type of event, leaves no table empty, and its clock steps back at the end', async () => {
  const types = new Set(story.map((row) => row[5]))
  expect([...types].toSorted()).toEqual(Object.keys(eventSchemas()).toSorted())
  const newest = story.reduce((one, other) => (other[6] > one[6] ? other : one))
  expect(story.findLast((row) => row[3] === newest[3])).not.toBe(newest)
  const rows: string[] = []
  for (const { fold } of looks.values()) rows.push(...(await fold(events)).rows)
  const { rows: tables } = await owner.query<{ name: string }>(
    `select relname as name from pg_class
      where relnamespace = 'read'::regnamespace and relkind = 'r' order by 1`,
  )
  const empty = tables.filter(({ name }) => !rows.some((row) => row.startsWith(`${name} `)))
  expect(empty.map(({ name }) => name)).toEqual([
    'account_state_tombstones',
    'audit',
    'heartbeats',
    'offsets',
    'quarantine',
    'stopped_partitions',
  ])
})

describe.each(readModels)('$projection.name', ({ projection }) => {
  test('whatever comes again and however it is cut, each event has its effect once', async () => {
    const property = fc.asyncProperty(seeds, async (seed) => {
      await forgetEverything()
      const { sums, look } = await deliverAgainAndAgain(projection, seed)
      expect(look).toEqual(allIsWell)
      expect(sums).toMatchObject({ applied: story.length, held: 0, failures: 0 })
    })
    await fc.assert(property, { numRuns: 2 })
  })

  test('a crash between apply and commit leaves nothing, and everything comes again', async () => {
    let crashes = 0
    const crashing: Projection = {
      ...projection,
      apply: async (transaction, given, origin) => {
        const applied = await projection.apply(transaction, given, origin)
        crashes += 1
        if (crashes % 2 === 1)
          await transaction.query('select pg_terminate_backend(pg_backend_pid())')
        return applied
      },
    }
    const sums = await openTestLog(pool, story).consume(crashing, 1)
    expect(await looksAt(projection).look(events)).toEqual(allIsWell)
    expect(sums).toMatchObject({ applied: story.length, duplicates: 0 })
    expect(sums.failures).toBeGreaterThan(5)
  })

  test('of owners that are at the same partitions at once, one of them slow, each applies its part', async () => {
    const slow: Projection = {
      ...projection,
      apply: async (transaction, given, origin) => {
        await transaction.query('select pg_sleep(0.005)')
        return projection.apply(transaction, given, origin)
      },
    }
    const log = openTestLog(pool, story)
    const owners = [slow, projection, projection]
    const all = await Promise.all(owners.map((each, index) => log.consume(each, index)))
    expect(await looksAt(projection).look(events)).toEqual(allIsWell)
    expect(all.reduce((sum, { applied }) => sum + applied, 0)).toBe(story.length)
    expect(all.map(({ duplicates }) => duplicates)).toEqual([0, 0, 0])
  })

  test('an owner that sleeps in the middle of a chunk, and is cut off and replaced, changes nothing', async () => {
    const log = openTestLog(pool, story)
    const asleep = Promise.withResolvers<number>()
    const replaced = Promise.withResolvers<void>()
    const sleeping: Projection = {
      ...projection,
      apply: async (transaction, given, origin) => {
        const applied = await projection.apply(transaction, given, origin)
        const { rows } = await transaction.query<{ pid: number }>('select pg_backend_pid() as pid')
        asleep.resolve(rows[0]!.pid)
        await replaced.promise
        return applied
      },
    }
    const chunk = { partition: 0, from: 0, end: 60 }
    const zombie = log.apply(sleeping, chunk).then(
      () => 'applied',
      () => 'refused',
    )
    const pid = await asleep.promise
    const successor = log.consume(projection, 1)
    // As idle_in_transaction_session_timeout does after its time.
    await pool.query('select pg_terminate_backend($1)', [pid])
    expect(await successor).toMatchObject({ applied: story.length, duplicates: 0 })
    replaced.resolve()
    expect(await zombie).toBe('refused')
    expect(await log.apply(projection, chunk)).toMatchObject({ kind: 'moved' })
    expect(await looksAt(projection).look(events)).toEqual(allIsWell)
  })

  test('accounts with a missing or unreadable event are named, all else is applied, and then they are repaired', async () => {
    const gaps = withGaps(story, 2)
    const { before, after } = await repairAfter(projection, gaps, 2)
    expect(before).toEqual({ ...allIsWell, named: namedBy(projection, gaps.accounts) })
    expect(after).toEqual(allIsWell)
  })

  test('accounts with another event under a version are named, and nothing of it stays', async () => {
    const histories = withOtherHistories(story, 3)
    const { before, after } = await repairAfter(projection, histories, 3)
    expect(before).toMatchObject({ named: namedBy(projection, histories.accounts), unnamed: [] })
    expect(after).toEqual(allIsWell)
  })

  test('an event whose values the database refuses is applied by who stores none of them, or named', async () => {
    const sound = story.slice(0, 200)
    const rows = [...sound, ...refusedEvents()]
    await openTestLog(pool, rows).consume(projection, 4)
    const { named, ...look } = await looksAt(projection).look(rows.map(projected))
    expect(look).toEqual({ unnamed: [], wrong: [] })
    expect(named.filter((who) => !who.includes('story-refused'))).toEqual([])
  })
})

/** Where the rows of heads are. */
const headsOf = ({ name }: Projection) =>
  name === 'accounts'
    ? { table: 'read.accounts', key: 'id' }
    : { table: `read.${name.replaceAll('-', '_')}_heads`, key: 'account_id' }

/** Parts of a batch in which each account's versions rise by one. */
function runsOf(given: readonly ProjectedEvent[]): ProjectedEvent[][] {
  const runs: ProjectedEvent[][] = []
  let last = new Map<string, number>()
  for (const event of given) {
    const { account, version } = event
    if (runs.length === 0 || (last.get(account) ?? version - 1) !== version - 1) {
      runs.push([])
      last = new Map()
    }
    runs.at(-1)!.push(event)
    last.set(account, version)
  }
  return runs
}

/** Takes for new whatever comes, a repetition as well as what comes after a gap. */
function withoutGuard(projection: Projection): Projection {
  const { table, key } = headsOf(projection)
  return {
    ...projection,
    apply: async (transaction, given, origin) => {
      let applied = 0
      for (const run of runsOf(given)) {
        const first = new Map(run.toReversed().map(({ account, version }) => [account, version]))
        await transaction.query(
          `update ${table} h set version = n.version - 1
            from unnest($1::text[], $2::bigint[]) as n(id, version) where h.${key} = n.id`,
          [[...first.keys()], [...first.values()]],
        )
        applied += (await projection.apply(transaction, run, origin)).applied
      }
      return { applied, duplicates: 0, refusals: [] }
    },
  }
}

/** Folds only the last event of each account in a batch. */
function withTheLastOnly(projection: Projection): Projection {
  const guarded = withoutGuard(projection)
  return {
    ...projection,
    apply: (transaction, given, origin) => {
      const last = new Map(given.map((event) => [event.account, event]))
      return guarded.apply(
        transaction,
        given.filter((event) => event.version === 1 || last.get(event.account) === event),
        origin,
      )
    },
  }
}

/** Forgets how far it is with an account, and leaves what it wrote of it. */
function withoutForgetting(projection: Projection): Projection {
  const { table, key } = headsOf(projection)
  return {
    ...projection,
    forget: async (transaction, account) => {
      await transaction.query(`delete from ${table} where ${key} = $1`, [account])
    },
  }
}

describe.each(readModels)('these tests are not blind: $projection.name', ({ projection }) => {
  test('without its guard it is found out', async () => {
    const { look } = await deliverAgainAndAgain(withoutGuard(projection), 5)
    expect(look).not.toEqual(allIsWell)
  })

  test('passing over gaps it is found out', async () => {
    const gaps = withGaps(story, 2)
    await openTestLog(pool, gaps.rows).consume(withoutGuard(projection), 2)
    expect(await looksAt(projection).look(events)).not.toEqual({
      ...allIsWell,
      named: namedBy(projection, gaps.accounts),
    })
  })

  test('with a view that depends on how the log is cut it is found out', async () => {
    await openTestLog(pool, story).consume(withTheLastOnly(projection), 6)
    expect(await looksAt(projection).look(events)).not.toEqual(allIsWell)
  })

  test('leaving what it wrote of a history that was replaced it is found out, if it wrote any', async () => {
    const { rows } = await looksAt(projection).fold(events)
    const { table } = headsOf(projection)
    const isKept = (row: string) =>
      row.includes('"story-') && !`read.${row}`.startsWith(`${table} `)
    // What is queued to be told stays by intent.
    const hasMore = rows.some((row) => isKept(row) && !row.startsWith('notifications '))
    const hasFigures = rows.some((row) => row.includes('_tallies '))
    const { after } = await repairAfter(
      withoutForgetting(projection),
      withOtherHistories(story, 3),
      3,
    )
    if (hasMore || hasFigures) expect(after).not.toEqual(allIsWell)
    else expect(after).toEqual(allIsWell)
  })
})
