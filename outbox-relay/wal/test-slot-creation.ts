import { waitUntil } from 'local-stack/wait-until'
import { openPool, type Pool } from 'migrations/database'
import pg from 'pg'
import { Handover, holdersEnded } from '../handover.ts'
import { testNames } from '../test-outbox.ts'
import { openAccounts, runWriter, seededRandom } from '../test-writers.ts'
import type { Queryable } from '../text-query.ts'
import { openSlot, readLog } from './test-log-reader.ts'
import { type Entered, wayToLog } from './wal-entry.ts'

// What lies between the table and the log: slots made one after the other under many writers, and for
// each of them, which events are in neither the table as it was then nor the stream from the slot.

export type CreationOptions = {
  /** The superuser's. */
  url: string
  creations: number
  /** `handover`: as a relay comes to its slot. `at once`: the table is read as soon as there is one. */
  enters: 'handover' | 'at once'
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {}) // The statement that was running reports it.
  await client.connect()
  return client
}

/** Runs `work` beside writers; a writer's failure is thrown. */
export async function besideWriters<T>(
  { url, writers, seed }: { url: string; writers: number; seed: number },
  work: () => Promise<T>,
): Promise<T> {
  const accounts = Array.from({ length: 40 }, (_, n) => `w-${n}`)
  const opening = await connected(url)
  await openAccounts(opening, accounts)
  await opening.end()
  const ended = new AbortController()
  const running = Array.from({ length: writers }, (_, n) =>
    runWriter({
      connect: () => connected(url),
      accounts,
      random: seededRandom(seed + n),
      onCommitted: () => {},
      signal: ended.signal,
    }),
  )
  const failed = Promise.withResolvers<never>()
  for (const writer of running) writer.catch(failed.reject)
  try {
    return await Promise.race([work(), failed.promise])
  } finally {
    ended.abort()
    await Promise.all(running)
  }
}

/** How many events each creation lost; throws when one has brought nothing to look at. */
export async function eventsInNeither(options: CreationOptions): Promise<number[]> {
  const { url, creations } = options
  const onError = () => {} // The statement that was running reports it.
  await using db = openPool({ url, applicationName: 'test-relay', maxConnections: 3, onError })
  const enter = options.enters === 'handover' ? handedOver : atOnce
  const lost: number[] = []
  let floor = 0n
  for (let n = 1; n <= creations; n += 1) {
    const look = () => positionsAbove(db, floor)
    await using entered = await enter({ url, db, epoch: String(n), look })
    const found = await compare(db, entered, floor)
    floor = found.decided
    lost.push(found.lost.length)
  }
  return lost
}

async function positionsAbove(db: Queryable, floor: bigint): Promise<Set<bigint>> {
  const { rows } = await db.query<{ position: string }>(
    'select position from outbox.events where position > $1',
    [String(floor)],
  )
  return new Set(rows.map((row) => BigInt(row.position)))
}

type Entering = { url: string; db: Pool; epoch: string; look: () => Promise<Set<bigint>> }
/** A slot, and the table as it was when the slot's stream could begin. */
type Entry = Entered & { inTable: Set<bigint> } & AsyncDisposable

async function atOnce({ url, epoch, look }: Entering): Promise<Entry> {
  const opened = await openSlot(url, `at_once_${epoch}`)
  const close = () => opened.session[Symbol.asyncDispose]()
  return { ...opened, inTable: await look(), [Symbol.asyncDispose]: close }
}

async function handedOver({ url, db, epoch, look }: Entering): Promise<Entry> {
  await using cleanup = new AsyncDisposableStack()
  const way = wayToLog({ url, db, names: await testNames({ pool: db }, epoch) })
  const { signal } = new AbortController()
  const quiet = { step: async () => {}, waiting: () => {} }
  const handover = cleanup.use(new Handover({ way, db, ...quiet, signal }))
  const covered = async () => {
    const sentMs = performance.now()
    const inTable = await look()
    return handover.covers({ complete: true, sentMs }) && inTable
  }
  const inTable = await waitUntil(covered, {
    what: 'the handover',
    deadlineMs: 60_000,
    intervalMs: 5,
  })
  const entered = handover.take()
  // What was taken lives as long as its handover.
  const moved = cleanup.move()
  return { ...entered, inTable, [Symbol.asyncDispose]: () => moved.disposeAsync() }
}

async function compare(
  db: Queryable,
  { session, slot, inTable }: Entry,
  floor: bigint,
): Promise<{ lost: bigint[]; decided: bigint }> {
  const { rows } = await db.query<{ drawn: string }>(
    'select last_value as drawn from outbox.events_position_seq',
  )
  const drawn = BigInt(rows[0]?.drawn ?? 0)
  const log = readLog({ session, slot })
  // Whoever drew a position up to here has ended, so all of them that ever come are there.
  await holdersEnded({ db, signal: new AbortController().signal })
  const all = [...(await positionsAbove(db, floor))].filter((position) => position <= drawn)
  // What committed before this is in the log before it.
  const { rows: fence } = await db.query<{ position: string }>(
    `insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload,
        source, specversion, traceparent, correlationid, causationid, occurred_at)
     values (gen_random_uuid(), 'fence', 'f', 1, 'T.v1', '{}', 's', '1.0', '', '', '', now())
     returning position`,
  )
  await log.until(BigInt(fence[0]?.position ?? 0))
  const inLog = new Set(log.positions())
  const lost = all.filter((position) => !inTable.has(position) && !inLog.has(position))
  return { lost, decided: drawn }
}
