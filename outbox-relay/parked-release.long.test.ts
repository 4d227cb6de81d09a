import { describe, expect, test, vi } from 'vitest'
import { quickModes } from './test-modes.ts'
import {
  act,
  actOnAll,
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
import { waitUntil } from 'local-stack/wait-until'
import { kept } from './test-topic.ts'

vi.setConfig({ testTimeout: 90_000 })

const release = 'outbox-relay/parked-release.ts'
const table = 'outbox-relay/parking-table.ts'
const sends = '  const refused = await refusedOf(rows, send)\n'
const removes = '    requireEpoch(await removeCopies('
const unparks = '  const released = await unpark(db, tenure, aggregate)\n'

/** Where a leader is killed with -9 by itself, and at which passing. */
const points = [
  {
    name: 'before it sends',
    file: release,
    find: sends,
    put: `  drill.point()\n${sends}`,
    hits: 2,
  },
  {
    name: 'after Kafka has confirmed, before the copies go',
    file: release,
    find: removes,
    put: `    drill.point()\n${removes}`,
    hits: 2,
  },
  {
    name: 'while the copies go',
    file: table,
    find: "  const rows = await queryText(db, {\n    name: 'parked-remove',\n",
    // The statement is on its way when the process ends, and may or may not commit.
    put:
      '  if (drill.due()) drillSoon(() => drill.die())\n' +
      "  const rows = await queryText(db, {\n    name: 'parked-remove',\n",
    hits: 2,
  },
  {
    name: 'before it is parked no more',
    file: release,
    find: unparks,
    put: `  drill.point()\n${unparks}`,
    hits: 1,
  },
  {
    name: 'once it is parked no more, before anything else is sent',
    file: release,
    find: unparks,
    put: `${unparks}  drill.point()\n`,
    hits: 1,
  },
]

describe.each(quickModes)('in mode $name, while more arrive all the time', (mode) => {
  test.each(points)(
    'a leader that is killed $name is followed by one that keeps the order',
    async ({ hits, name: _name, ...patch }) => {
      await using stage = await openStage(mode)
      await stage.makeTopic()
      const environment = patchedSource([patch])
      await using first = await stage.relay({ ...environment, DRILL_POINT_HITS: String(hits) })
      await sendsBy(first, mode)
      // More than a release sends in one turn.
      await stage.insert(poison(stage, 1_200), 400)
      await using writing = await writeOn(stage, { from: 1_201 })
      await parks(first, 1_200)
      await raiseLimit(stage)
      await act(first, stage, { kind: 'retry' })
      expect(await first.exited).toEqual({ code: null, signal: 'SIGKILL' })
      await writing.more(20)
      await using second = await stage.relay()
      await nothingParked(second)
      await writing.more(20)
      await writing.stop()
      await drained(second, stage)
      expect(await stage.findings()).toMatchObject(kept)
    },
  )

  test('with as many parked as may be nothing new is sent, until all are released by one request', async () => {
    await using stage = await openStage(mode)
    await stage.makeTopic()
    const fewer = { find: 'parkedLimit = 100_000\n', put: 'parkedLimit = 3\n' }
    const environment = patchedSource([{ file: 'outbox-relay/parking.ts', ...fewer }])
    await using relay = await stage.relay({ ...environment, RELAY_BATCH_ROWS: '1' })
    await sendsBy(relay, mode)
    for (let account = 0; account < 6; account += 1) {
      await stage.insert([{ ...eventOf(stage, account, 1), payload: hugePayload }])
    }
    await stage.insert([eventOf(stage, 7, 1)])
    const full = await waitUntil(
      async () => {
        const status = await relay.status()
        return status.lastError?.code === 'parking_full' && status
      },
      { what: 'it to say that too much is parked' },
    )
    expect(full).toMatchObject({ parked: { aggregates: 3 }, backlog: 4, source: 'polling' })
    await raiseLimit(stage)
    expect(await actOnAll(relay)).toEqual({ status: 202, body: { aggregates: 3 } })
    await drained(relay, stage)
    expect(await parkedList(relay)).toEqual([])
    await sendsBy(relay, mode)
    expect(await stage.findings()).toMatchObject({ ...kept, repeated: 0 })
    expect(await actOnAll(relay)).toEqual({ status: 202, body: { aggregates: 0 } })
  })
})

const eventOf = ({ aggregateType }: Stage, account: number, version: number) => ({
  aggregateType,
  aggregateId: `a-${account}`,
  version,
})

/** Versions of the poisoned account, all behind the first one. */
const poison = ({ aggregateType }: Stage, versions: number) =>
  Array.from({ length: versions }, (_, n) => ({
    aggregateType,
    aggregateId: poisoned,
    version: n + 1,
    ...(n === 0 ? { payload: hugePayload } : {}),
  }))
