import pg from 'pg'
import { holdersEnded } from '../handover.ts'
import { openAccounts, runWriter, seededRandom } from '../test-writers.ts'
import { openSlot, readLog } from './test-log-reader.ts'

// What lies between the table and the log: slots made one after the other under many writers, and for
// each of them, which events are in neither the table as it was then nor the stream from the slot.

export type CreationOptions = {
  /** The superuser's. */
  url: string
  slotName: string
  creations: number
  /** Whether whoever held the table's lock is waited for before the table is read. */
  waits: boolean
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
  const client = await connected(options.url)
  const lost: number[] = []
  let floor = 0n
  try {
    for (let n = 0; n < options.creations; n += 1) {
      const found = await oneCreation(
        client,
        { ...options, slotName: `${options.slotName}_${n}` },
        floor,
      )
      floor = found.decided
      lost.push(found.lost.length)
    }
  } finally {
    await client.end()
  }
  return lost
}

async function positionsAbove(client: pg.Client, floor: bigint): Promise<Set<bigint>> {
  const { rows } = await client.query<{ position: string }>(
    'select position from outbox.events where position > $1',
    [String(floor)],
  )
  return new Set(rows.map((row) => BigInt(row.position)))
}

async function oneCreation(
  client: pg.Client,
  { url, slotName, waits }: CreationOptions,
  floor: bigint,
): Promise<{ lost: bigint[]; decided: bigint }> {
  const wait = { db: client, signal: new AbortController().signal, waiting: () => {} }
  const opened = await openSlot(url, slotName)
  try {
    if (waits) await holdersEnded(wait)
    const inTable = await positionsAbove(client, floor)
    const { rows } = await client.query<{ drawn: string }>(
      'select last_value as drawn from outbox.events_position_seq',
    )
    const drawn = BigInt(rows[0]?.drawn ?? 0)
    const log = readLog(opened)
    // Whoever drew a position up to here has ended, so all of them that ever come are there.
    await holdersEnded(wait)
    const all = [...(await positionsAbove(client, floor))].filter((position) => position <= drawn)
    // What committed before this is in the log before it.
    const { rows: fence } = await client.query<{ position: string }>(
      `insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload,
          source, specversion, traceparent, correlationid, causationid, occurred_at)
       values (gen_random_uuid(), 'fence', 'f', 1, 'T.v1', '{}', 's', '1.0', '', '', '', now())
       returning position`,
    )
    await log.until(BigInt(fence[0]?.position ?? 0))
    const inLog = new Set(log.positions())
    const lost = all.filter((position) => !inTable.has(position) && !inLog.has(position))
    return { lost, decided: drawn }
  } finally {
    await opened.session[Symbol.asyncDispose]()
  }
}
