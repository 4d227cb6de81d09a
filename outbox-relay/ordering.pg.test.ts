import { randomBytes, randomInt } from 'node:crypto'
import {
  ensureDatabase,
  findFreePorts,
  openDataFolder,
  type Postgres,
  startPostgres,
} from 'local-stack'
import { waitUntil } from 'local-stack/wait-until'
import { isConnectionLost } from 'migrations/database'
import { migrate } from 'migrations/migrate'
import pg from 'pg'
import { pause } from 'service/backoff'
import { describe, expect, test } from 'vitest'
import { cursorSession, openCursor } from './cursor.ts'
import { type Progress } from './progress.ts'
import { type Delivery, violationsOf } from './test-deliveries.ts'
import {
  insertEvents,
  lockAccounts,
  openAccounts,
  runWriter,
  saveVersions,
  seededRandom,
} from './test-writers.ts'
import { connect } from './test-outbox.ts'

// The gap cursor against many writers, a crash of the server and a prepared transaction, beside two
// cursors that are known to be wrong and read the same commits in the same run. What the wrong ones
// miss shows that this run could have caught the right one.

const given = process.env.ORDERING_SEED
const seed = given === undefined ? randomInt(1_000_000_000) : Number(given)
const writers = 16
const wantedEvents = 20_000
const writingLimitMs = 32_000

/** One poll of a reader; true when it brought something or still waits for a gap. */
type Reader = {
  name: string
  delivered: Delivery[]
  open(session: pg.Client): () => Promise<boolean>
}

function gapReader(): Reader & { maxGaps: number } {
  let progress: Progress = { next: 1n, gaps: [] }
  const reader = {
    name: 'gap cursor',
    delivered: [] as Delivery[],
    maxGaps: 0,
    open(session: pg.Client) {
      const cursor = openCursor(session, { rows: 300, payloadBytes: 1_000_000, openGaps: 5_000 })
      return async () => {
        const batch = await cursor.read(progress)
        progress = batch.after
        for (const row of batch.rows) {
          reader.delivered.push({ aggregateId: row[3], version: Number(row[4]) })
        }
        reader.maxGaps = Math.max(reader.maxGaps, progress.gaps.length)
        return batch.rows.length > 0 || progress.gaps.length > 0
      }
    },
  }
  return reader
}

type Found = { aggregateid: string; aggregateversion: string; position: string; xid: string }

/** Reads what `select` finds after the last row it read, which is all that such a cursor remembers. */
function rowReader(name: string, select: string): Reader {
  let last: Pick<Found, 'xid' | 'position'> = { xid: '0', position: '0' }
  const delivered: Delivery[] = []
  return {
    name,
    delivered,
    open: (session) => async () => {
      const { rows } = await session.query<Found>({
        name,
        text: `select aggregateid, aggregateversion, position, correlationid as xid ${select}`,
        values: [last.position, last.xid],
      })
      for (const row of rows) {
        delivered.push({ aggregateId: row.aggregateid, version: Number(row.aggregateversion) })
      }
      last = rows.at(-1) ?? last
      return rows.length > 0
    },
  }
}

const naiveReader = () =>
  rowReader(
    'naive cursor',
    `from outbox.events where position > $1::bigint and $2::text is not null
      order by position limit 300`,
  )

const xidReader = () =>
  rowReader(
    'xid cursor',
    `from outbox.events
      where (correlationid::xid8, position) > ($2::text::xid8, $1::bigint)
        and correlationid::xid8 < pg_snapshot_xmin(pg_current_snapshot())
      order by correlationid::xid8, position limit 2000`,
  )

/** Polls until told to stop, over a session that is opened again when it is lost. */
async function follow(
  reader: Reader,
  { url, idleMs, signal }: { url: () => string; idleMs: number; signal: AbortSignal },
): Promise<void> {
  while (!signal.aborted) {
    try {
      await using session = await connect(url(), cursorSession)
      const poll = reader.open(session.client)
      while (!signal.aborted) if (!(await poll())) await pause(idleMs, signal)
    } catch (error) {
      if (!isConnectionLost(error)) throw error
      await pause(50, signal)
    }
  }
}

/** Reads what is left, once nobody writes any more. */
async function drain(reader: Reader, url: string): Promise<void> {
  await using session = await connect(url, cursorSession)
  const poll = reader.open(session.client)
  await waitUntil(async () => !(await poll()), {
    what: `the ${reader.name} to have read everything`,
    deadlineMs: 20_000,
    intervalMs: 1,
  })
}

async function migratedServer(cleanup: AsyncDisposableStack) {
  const dataFolder = cleanup.use(await openDataFolder())
  const [port = 0] = await findFreePorts(1)
  const password = randomBytes(8).toString('hex')
  // A crash of the server costs nothing without fsync; one of the machine would.
  const start = () => startPostgres({ dataFolder, port, password, durable: false })
  let running: Postgres = await start()
  cleanup.defer(() => running.stop())
  const [url, readUrl] = [running.url('sluice_write'), running.url('sluice_read')]
  for (const name of ['sluice_write', 'sluice_read']) await ensureDatabase(running.url(), name)
  await migrate({ writeUrl: url, readUrl, brokers: [], passwords: {}, report: () => {} })
  return {
    url,
    async crash() {
      running.kill('SIGQUIT')
      await running.exited
      running = await start()
    },
  }
}

/** A transaction that has a number, has nothing to do with the outbox, and does not end. */
async function openUnrelated(url: string) {
  const session = await connect(url)
  await session.sql('begin; select pg_current_xact_id(); select count(*) from outbox.events')
  return session
}

/** Two accounts, locked and written, and neither committed nor rolled back. */
async function prepareTransaction(url: string, ids: readonly string[]): Promise<void> {
  await using session = await connect(url)
  await session.sql('begin')
  const versions = await lockAccounts(session.client, ids)
  await insertEvents(session.client, versions, 3)
  await saveVersions(session.client, versions)
  await session.sql("prepare transaction 'ordering'")
}

async function committedEvents(url: string): Promise<Delivery[]> {
  await using session = await connect(url)
  const { rows } = await session.client.query<Found>(
    'select aggregateid, aggregateversion from outbox.events',
  )
  return rows.map((row) => ({
    aggregateId: row.aggregateid,
    version: Number(row.aggregateversion),
  }))
}

describe.skipIf(process.env.TEST_STACK === 'containers')('under 16 writers', () => {
  test(`nothing is lost or out of order, and wrong cursors are caught (ORDERING_SEED=${seed})`, async () => {
    await using cleanup = new AsyncDisposableStack()
    const server = await migratedServer(cleanup)
    const random = seededRandom(seed)
    const accounts = Array.from({ length: 40 }, (_, n) => `a-${n}`)
    const preparedAccounts = ['prepared-1', 'prepared-2']
    {
      await using session = await connect(server.url)
      await openAccounts(session.client, [...accounts, ...preparedAccounts])
    }
    let committed = 0
    const [written, read] = [new AbortController(), new AbortController()]
    cleanup.defer(() => [written, read].forEach((each) => each.abort()))
    const gap = gapReader()
    const readers: Reader[] = [gap, naiveReader(), xidReader()]
    const url = () => server.url
    const following = Promise.all(
      readers.map((reader) => follow(reader, { url, idleMs: 5, signal: read.signal })),
    )
    const writing = Promise.all(
      Array.from({ length: writers }, () =>
        runWriter({
          connect: async () => (await connect(server.url)).client,
          accounts,
          random: seededRandom(Math.floor(random() * 2 ** 32)),
          onCommitted: (events) => (committed += events),
          signal: written.signal,
        }),
      ),
    )
    const ended = Promise.all([following, writing]).then(() => true)
    const reach = (events: number) =>
      Promise.race([
        waitUntil(() => committed >= events, {
          what: `${events} events`,
          deadlineMs: writingLimitMs,
        }),
        ended,
      ])

    const unrelated = await openUnrelated(server.url)
    await reach(wantedEvents * (0.2 + 0.1 * random()))
    await prepareTransaction(server.url, preparedAccounts)
    await reach(wantedEvents * (0.4 + 0.1 * random()))
    await server.crash()
    await unrelated[Symbol.asyncDispose]().catch(() => {})
    const unrelatedAgain = await openUnrelated(server.url)
    await reach(wantedEvents * 0.7)
    {
      await using session = await connect(server.url)
      await session.sql("commit prepared 'ordering'")
    }
    await reach(wantedEvents)
    written.abort()
    await writing
    // The gap cursor finishes although the unrelated transaction is still open.
    read.abort()
    await following
    await drain(gap, server.url)
    await unrelatedAgain[Symbol.asyncDispose]()
    for (const reader of readers) await drain(reader, server.url)

    const truth = await committedEvents(server.url)
    const [gapFound, naiveFound, xidFound] = readers.map((reader) =>
      violationsOf(truth, reader.delivered),
    )
    process.stdout.write(
      `ordering: seed ${seed}, ${truth.length} events, at most ${gap.maxGaps} gaps; ` +
        `gap ${JSON.stringify(gapFound)}, naive ${JSON.stringify(naiveFound)}, ` +
        `xid ${JSON.stringify(xidFound)}\n`,
    )
    expect(truth.length).toBeGreaterThanOrEqual(wantedEvents)
    expect(gapFound).toEqual({ lost: 0, outOfOrder: 0, repeated: 0, phantom: 0 })
    // Of the writers': the prepared transaction, which commits at the end, any naive cursor loses.
    const byWriters = truth.filter(({ aggregateId }) => !aggregateId.startsWith('prepared-'))
    const naiveOfWriters = violationsOf(byWriters, readers[1]!.delivered)
    expect(naiveOfWriters.lost, 'the run is blind to lost events').toBeGreaterThan(0)
    expect(xidFound?.outOfOrder, 'the run is blind to wrong order').toBeGreaterThan(0)
  }, 90_000)
})
