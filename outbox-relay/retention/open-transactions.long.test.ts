import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { openCursor } from '../cursor.ts'
import { connect, readingSession, type TestOutbox, testOutbox } from '../test-outbox.ts'
import { maintenanceSession } from './maintenance.ts'
import { fill, maintainOnce, makeSmall, namesOf, publishTo } from './test-partitions.ts'

/** A wait that is no wait, on a machine that does other things too, in milliseconds. */
const soonMs = 400

test('commands and polling keep answering while old transactions hold maintenance up', async () => {
  await using outbox = await testOutbox()
  await makeSmall(outbox)
  await using superuser = await outbox.superuser()
  await using writer = await outbox.writer()
  await fill(writer, 310)
  await publishTo(superuser, 311)
  await using reader = await outbox.superuser()
  await using inserter = await outbox.writer()
  for (const session of [reader, inserter]) await session.sql('begin')
  // One holds a row of a partition that is to go, the other the parent, by an uncommitted insert.
  await reader.client.query('select from outbox.events where position = 7 for update')
  await fill(inserter, 1)
  await maintainOnce(outbox, {
    positions: 1_000_000n,
    ahead: 3,
    maxBytes: 1,
    retentionSeconds: 1e9,
  })
  await using load = await keepBusy(outbox)
  const quiet = await load.during(() => load.go(500))
  const maintained = await load.during(async () => {
    const run = await maintainOnce(outbox, { positions: 1_000_000n })
    expect(run).toMatchObject({ made: ['events_000000002000501'], retired: [] })
    expect(run.heldBack).toEqual(['events_000000000000001'])
  })
  expect(await namesOf(outbox)).toContain('1 pending')
  process.stdout.write(`before: ${told(quiet)}; during maintenance: ${told(maintained)}\n`)
  for (const kind of ['commands', 'polls'] as const) {
    expect(maintained[kind].length).toBeGreaterThan(500)
    expect(Math.max(...maintained[kind])).toBeLessThan(soonMs)
  }
  // The control: a plain DETACH waits for the open insert, and every command waits behind it.
  const caught = await load.during(async () => {
    await using naive = await connect(outbox.maintenanceUrl, maintenanceSession)
    await expect(
      naive.sql('alter table outbox.events detach partition outbox.events_000000000000101'),
    ).rejects.toMatchObject({ code: '55P03' })
    await load.go(10)
  })
  process.stdout.write(`control: ${told(caught)}\n`)
  expect(Math.max(...caught.commands)).toBeGreaterThan(soonMs)
  for (const session of [reader, inserter]) await session.sql('rollback')
  await maintainOnce(outbox)
  expect(await namesOf(outbox)).not.toContain('1 pending')
}, 90_000)

type Waits = { commands: number[]; polls: number[] }

/** Inserts and polls without a pause, and notes how long each took, in milliseconds. */
async function keepBusy(place: TestOutbox) {
  const ended = new AbortController()
  let waits: Waits = { commands: [], polls: [] }
  const again = async (kind: keyof Waits, work: () => Promise<unknown>) => {
    while (!ended.signal.aborted) {
      const startedMs = performance.now()
      await work()
      waits[kind].push(performance.now() - startedMs)
    }
  }
  const writer = await place.writer()
  const session = await readingSession(place.relayUrl)
  const cursor = openCursor(session.client)
  let progress = { next: 311n, gaps: [] } as Parameters<typeof cursor.read>[0]
  const loops = [
    again('commands', () => fill(writer, 1)),
    again('polls', async () => ({ after: progress } = await cursor.read(progress))),
  ]
  return {
    go: (count: number) =>
      waitUntil(() => waits.commands.length >= count && waits.polls.length >= count, {
        what: 'commands and polls',
      }),
    async during(work: () => Promise<unknown>): Promise<Waits> {
      waits = { commands: [], polls: [] }
      await work()
      return waits
    },
    async [Symbol.asyncDispose]() {
      ended.abort()
      await Promise.all(loops)
      await writer[Symbol.asyncDispose]()
      await session[Symbol.asyncDispose]()
    },
  }
}

function told({ commands, polls }: Waits): string {
  return `${commands.length} commands p99 ${p99(commands)} ms, ${polls.length} polls p99 ${p99(polls)} ms`
}

function p99(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return Math.round((sorted[Math.floor(sorted.length * 0.99)] ?? 0) * 10) / 10
}
