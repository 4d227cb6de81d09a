import { expect, test } from 'vitest'
import { afterReading, type Progress } from './progress.ts'
import { ProgressSaver } from './progress-saver.ts'
import { nothingHeld } from './parking.ts'
import type { Changes } from './parking-table.ts'
import type { OutboxRow } from './wire.ts'

const start: Progress = { next: 1n, gaps: [] }
const after = (from: Progress, ...positions: bigint[]) =>
  afterReading(from, { positions, complete: true })

function saverWith(save?: () => Promise<boolean>) {
  const written: Changes[] = []
  const clock = { ms: 0 }
  const saver = new ProgressSaver({
    saved: start,
    save: async (changes) => {
      written.push(changes)
      return save?.() ?? true
    },
    intervalMs: 50,
    now: () => clock.ms,
  })
  return { saver, written, clock }
}

test('at most one write per interval, and the last progress is written when asked', async () => {
  const { saver, written, clock } = saverWith()
  let progress = start
  for (let ms = 0; ms < 200; ms += 5) {
    clock.ms = ms
    progress = after(progress, progress.next)
    saver.offer(progress)
    await new Promise(setImmediate)
  }
  expect(written.map(({ next }) => next)).toEqual([2n, 12n, 22n, 32n])
  await saver.flush()
  expect(written.at(-1)?.next).toBe(41n)
})

test('only what changed since the last write is written, and nothing when nothing did', async () => {
  const { saver, written } = saverWith()
  const first = after(start, 3n, 7n)
  saver.offer(first)
  await saver.flush()
  saver.offer(after(first))
  await saver.flush()
  saver.offer(after(first, 2n))
  await saver.flush()
  expect(written).toEqual([
    {
      from: 1n,
      next: 8n,
      gaps: {
        closed: [],
        opened: [
          { first: 1n, last: 2n, holders: null },
          { first: 4n, last: 6n, holders: null },
        ],
      },
      held: nothingHeld,
    },
    {
      from: 8n,
      next: 8n,
      gaps: { closed: [], opened: [{ first: 1n, last: 1n, holders: null }] },
      held: nothingHeld,
    },
  ])
})

test('a write refused by the epoch ends it', async () => {
  const { saver } = saverWith(async () => false)
  saver.offer(after(start, 1n))
  await expect(saver.flush()).rejects.toMatchObject({ code: 'progress_fenced' })
})

test('a write that failed is not taken for done: every later call throws', async () => {
  const { saver } = saverWith(async () => {
    throw new Error('connection lost')
  })
  saver.offer(after(start, 1n))
  await expect(saver.flush()).rejects.toThrow('connection lost')
  expect(() => saver.offer(after(start, 1n, 2n))).toThrow('connection lost')
})

test('what is held is written once, with the progress that covers it', async () => {
  const { saver, written, clock } = saverWith()
  const row = (position: string): OutboxRow => [
    position,
    'id',
    'account',
    'a',
    position,
    'T.v1',
    't',
    's',
    '1.0',
    'c',
    'd',
    'p',
    '"payload"',
  ]
  const first = after(start, 1n)
  const refused = [{ row: row('1'), reason: 'INVALID_RECORD', recordBytes: 1 }]
  saver.offer(first, { rows: [row('1')], refused })
  clock.ms = 10
  const second = after(first, 2n)
  saver.offer(second, { rows: [row('2')], refused: [] })
  saver.offer(after(second, 3n))
  await saver.flush()
  await saver.flush()
  const seen = written.map(({ next, held }) => [next, held.rows.map(([at]) => at), held.refused])
  expect(seen).toEqual([
    [2n, ['1'], refused],
    [4n, ['2'], []],
  ])
})

test('it is full when much is held in memory, and not any more when that is written', async () => {
  const { saver } = saverWith()
  const payload = 'x'.repeat(5_000_000)
  const row: OutboxRow = [
    '1',
    'i',
    'account',
    'a',
    '1',
    'T',
    't',
    's',
    '1.0',
    'c',
    'd',
    'p',
    payload,
  ]
  saver.offer(after(start, 1n))
  saver.offer(after(start, 1n, 2n), { rows: [row], refused: [] })
  expect(saver.full).toBe(false)
  saver.offer(after(start, 1n, 2n, 3n), { rows: [row], refused: [] })
  expect(saver.full).toBe(true)
  await saver.flush()
  expect(saver.full).toBe(false)
})
