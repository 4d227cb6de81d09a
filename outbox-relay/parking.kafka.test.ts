import { waitUntil } from 'local-stack/wait-until'
import { describe, expect, test, vi } from 'vitest'
import { known, quickModes, type TestedMode } from './test-modes.ts'
import {
  act,
  hugePayload,
  nothingParked,
  parkedList,
  parks,
  patchedSource,
  poisoned,
  raiseLimit,
  writeOn,
} from './test-parking.ts'
import { drained, openStage, sendsBy, type Stage } from './test-stage.ts'
import { headerOf, kept } from './test-topic.ts'

vi.setConfig({ testTimeout: 90_000 })

const ways = quickModes.flatMap((mode) =>
  (['direct', 'kafkajs'] as const).map((producer) => ({ mode, name: mode.name, producer })),
)

async function versionsOf(stage: Stage, aggregateId: string): Promise<number[]> {
  const dump = await stage.dump()
  return dump
    .filter(({ key }) => key === aggregateId)
    .map((record) => Number(headerOf(record, 'ce_sequence')))
}

const expectKept = async (stage: Stage, more = {}) =>
  expect(await stage.findings()).toMatchObject({ ...kept, ...more })

async function begun(mode: TestedMode, environment: Record<string, string> = {}) {
  await using cleanup = new AsyncDisposableStack()
  const stage = cleanup.use(await openStage(mode))
  await stage.makeTopic()
  const relay = cleanup.use(await stage.relay(environment))
  await sendsBy(relay, mode)
  const kept = cleanup.move()
  return { stage, relay, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}

describe.each(ways)('in mode $name with the producer $producer', ({ mode, producer }) => {
  test('an event that is too large parks its account alone, and is released in order while more arrive', async () => {
    await using begin = await begun(mode, { KAFKA_PRODUCER: producer })
    const { stage, relay } = begin
    await using writing = await writeOn(stage)
    await parks(relay, 20)
    expect(await parkedList(relay)).toMatchObject([
      {
        aggregateId: poisoned,
        refused: { version: '5', reason: 'MESSAGE_TOO_LARGE', times: 1 },
        releasing: false,
      },
    ])
    expect(await versionsOf(stage, poisoned)).toEqual([1, 2, 3, 4])
    expect((await versionsOf(stage, 'w-1')).length).toBeGreaterThan(20)
    await raiseLimit(stage)
    expect(await act(relay, stage, { kind: 'retry' })).toBe(202)
    await nothingParked(relay)
    await writing.more(5)
    await writing.stop()
    await drained(relay, stage)
    await expectKept(stage, { repeated: 0 })
    expect(JSON.stringify(relay.lines)).not.toContain('xxxxx')
    expect(relay.logged('event_refused')).toMatchObject({ level: 'error' })
  })
})

describe.each(quickModes)('in mode $name', (mode) => {
  test('an account stays parked through kill -9, another leader and a stop', async () => {
    await using begin = await begun(mode)
    const { stage, relay } = begin
    await using writing = await writeOn(stage)
    await using second = await stage.relay()
    await parks(relay, 5)
    await relay.stop('SIGKILL')
    await sendsBy(second, mode)
    await writing.more(20)
    await parks(second, 25)
    expect(await second.stop('SIGTERM')).toEqual({ code: 0, signal: null })
    await writing.more(5)
    await using third = await stage.relay()
    await sendsBy(third, mode)
    await parks(third, 30)
    expect(await versionsOf(stage, poisoned).then((all) => Math.max(...all))).toBe(4)
    await raiseLimit(stage)
    expect(await act(third, stage, { kind: 'retry' })).toBe(202)
    await nothingParked(third)
    await writing.stop()
    await drained(third, stage)
    await expectKept(stage)
  })

  test('a relay killed with -9 in the middle of a release repeats, and loses and reorders nothing', async () => {
    await using stage = await openStage(mode)
    await stage.makeTopic()
    const { aggregateType } = stage
    await stage.insert([{ aggregateType, aggregateId: 'w-0', version: 1, payload: hugePayload }])
    await using first = await stage.relay()
    await stage.insert(stage.history(1, 1, 10))
    await insertVersions(stage, 2, 6_000)
    await parks(first, 6_000)
    await raiseLimit(stage)
    await act(first, stage, { kind: 'retry' })
    await waitUntil(async () => (await first.status()).parked.events < 5_500, {
      what: 'a part of it to be released',
      intervalMs: 1,
    })
    await first.stop('SIGKILL')
    await insertVersions(stage, 6_001, 6_500)
    await using second = await stage.relay()
    await nothingParked(second)
    await drained(second, stage)
    await expectKept(stage)
  })

  test('a skip leaves the refused event out, and nothing else', async () => {
    await using begin = await begun(mode)
    const { stage, relay } = begin
    await using writing = await writeOn(stage)
    await parks(relay, 10)
    expect(await act(relay, stage, { kind: 'skip' })).toBe(202)
    await nothingParked(relay)
    await writing.more(5)
    await writing.stop()
    await drained(relay, stage)
    await expectKept(stage, { lost: 1, repeated: 0 })
    expect((await versionsOf(stage, poisoned)).slice(0, 6)).toEqual([1, 2, 3, 4, 6, 7])
  })

  test('a retry that changes nothing parks it again', async () => {
    await using begin = await begun(mode)
    const { stage, relay } = begin
    await using writing = await writeOn(stage)
    await parks(relay, 5)
    await act(relay, stage, { kind: 'retry' })
    const again = await waitUntil(
      async () => (await parkedList(relay)).find(({ refused }) => refused.times === 2),
      { what: 'a second refusal' },
    )
    expect(again).toMatchObject({ refused: { version: '5' }, releasing: false })
    expect(await versionsOf(stage, poisoned)).toEqual([1, 2, 3, 4])
    await writing.stop()
  })
})

test('an aggregate type that no topic can be called by is parked, and holds up nobody', async () => {
  await using begin = await begun(known.polling)
  const { stage, relay } = begin
  await using session = await stage.session()
  const nowhere = { aggregateType: 'no such topic', aggregateId: 'a' }
  await session.insert({ ...nowhere, version: 1 }, ...stage.history(3, 1, 3))
  await session.insert({ ...nowhere, version: 2 }, ...stage.history(3, 4, 6))
  await drained(relay, stage)
  expect(await parkedList(relay)).toMatchObject([
    { aggregateId: 'a', refused: { version: '1', reason: 'INVALID_TOPIC_EXCEPTION' }, events: 2 },
  ])
  await expectKept(stage)
})

describe('a relay that parks wrongly is found out:', () => {
  // Of a batch that was read while the one before was on its way.
  const atReadAhead = [
    {
      file: 'outbox-relay/leadership.ts',
      find: '  const parked = new ParkedAggregates(await loadParked(pool))\n',
      put:
        '  const parked = new ParkedAggregates(await loadParked(pool))\n' +
        '  Object.assign(drill, { parked, held: new Set() })\n',
    },
    {
      file: 'outbox-relay/polling.ts',
      find: '  const reading = polling.read(progress)\n',
      put: `  const reading = polling.read(progress).then((batch) => {
        for (const row of batch.rows) {
          if (drill.parked.has({ aggregateType: row[2], aggregateId: row[3] })) drill.held.add(row)
        }
        return batch
      })\n`,
    },
    {
      file: 'outbox-relay/parking.ts',
      find: 'const isParked = (row: OutboxRow) => parked.has(aggregateOf(row))\n',
      put: `const isParked = (row: OutboxRow) =>
        drill.held.has(row) || held.refused.some((each) => each.row[3] === row[3])\n`,
    },
  ]
  // Nobody looks whether anything waits behind the copies that were sent.
  const withoutProof = [
    {
      file: 'outbox-relay/parked-release.ts',
      find: '  const refused = await refusedOf(rows, send)\n',
      put: '  const refused = await refusedOf(rows, send)\n  parked.delete(aggregate)\n',
    },
    {
      file: 'outbox-relay/parked-release.ts',
      find: 'parked.size === 0 ? [] : await readReleasing',
      put: 'await readReleasing',
    },
  ]

  test.each([
    ['what to hold is decided when a batch is read', atReadAhead],
    ['a release ends without the proof that nothing waits', withoutProof],
  ])('%s', async (_what, patches) => {
    await using stage = await openStage(known.polling)
    await stage.makeTopic()
    await insertVersions(stage, 1, 3_000, 5)
    await using relay = await stage.relay({ RELAY_BATCH_ROWS: '50', ...patchedSource(patches) })
    await parks(relay, 1)
    await drained(relay, stage)
    await raiseLimit(stage)
    await using writing = await writeOn(stage, { accounts: 1, from: 3_001 })
    await writing.more(1)
    await act(relay, stage, { kind: 'retry' })
    await waitUntil(async () => (await stage.findings()).outOfOrder > 0, {
      what: 'the checker to see it',
      deadlineMs: 30_000,
      intervalMs: 500,
    })
    await writing.stop()
  })
})

async function insertVersions(stage: Stage, from: number, to: number, hugeAt?: number) {
  const { aggregateType } = stage
  const events = Array.from({ length: to - from + 1 }, (_, n) => ({
    aggregateType,
    aggregateId: poisoned,
    version: from + n,
    ...(from + n === hugeAt ? { payload: hugePayload } : {}),
  }))
  await stage.insert(events, 500)
}
