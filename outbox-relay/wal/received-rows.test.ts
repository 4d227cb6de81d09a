import { setImmediate as nextTurn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import type { OutboxRow } from '../wire.ts'
import { ReceivedRows } from './received-rows.ts'

function rowOf(position: number, payload = '{}'): OutboxRow {
  const text = String(position)
  return [text, text, 'account', 'a', text, 'T.v1', 't', 's', '1.0', 'c', 'd', 'p', payload]
}

const positionsOf = (rows: readonly OutboxRow[]) => rows.map((row) => Number(row[0]))

test('rows are taken in the order received, at most as many as asked for', () => {
  const rows = new ReceivedRows(1e6)
  for (let position = 1; position <= 5; position += 1) rows.push(rowOf(position))
  expect(positionsOf(rows.take(2, 1e6))).toEqual([1, 2])
  expect(positionsOf(rows.take(9, 1e6))).toEqual([3, 4, 5])
  expect(rows.take(9, 1e6)).toEqual([])
})

test('a row that is too large for any batch is taken alone', () => {
  const rows = new ReceivedRows(1e6)
  for (const [position, size] of [10, 100, 10].entries())
    rows.push(rowOf(position, 'x'.repeat(size)))
  expect(positionsOf(rows.take(9, 50))).toEqual([0])
  expect(positionsOf(rows.take(9, 50))).toEqual([1])
  expect(positionsOf(rows.take(9, 50))).toEqual([2])
})

test('full at the limit, low at half of it', () => {
  const rows = new ReceivedRows(10_000)
  let pushed = 0
  while (!rows.full) rows.push(rowOf((pushed += 1), 'x'.repeat(1_000)))
  expect(pushed).toBe(5)
  expect(rows.low).toBe(false)
  rows.take(3, 1e6)
  expect(rows.full).toBe(false)
  expect(rows.low).toBe(true)
})

test('who waits hears of the next row, and of being woken without one', async () => {
  const rows = new ReceivedRows(1e6)
  let heard = 0
  const wait = () => rows.arrival().then(() => (heard += 1))
  let waiting = wait()
  await nextTurn()
  expect(heard).toBe(0)
  rows.push(rowOf(1))
  await waiting
  await wait()
  rows.take(1, 1e6)
  waiting = wait()
  await nextTurn()
  expect(heard).toBe(2)
  rows.wake()
  await waiting
  expect(rows.take(1, 1e6)).toEqual([])
})

test('whatever comes and is taken in between, every row is taken once, in order', () => {
  const script = fc.array(fc.record({ push: fc.nat(15_000), take: fc.nat(30_000) }), {
    maxLength: 6,
  })
  fc.assert(
    fc.property(script, (steps) => {
      const rows = new ReceivedRows(1e9)
      let [pushed, next] = [0, 0]
      const take = (limit: number) => {
        const taken = positionsOf(rows.take(limit, Infinity))
        expect(taken).toEqual(Array.from({ length: taken.length }, (_, n) => next + n))
        next += taken.length
      }
      for (const step of steps) {
        for (let n = 0; n < step.push; n += 1) rows.push(rowOf(pushed++))
        take(step.take)
      }
      take(Infinity)
      expect(next).toBe(pushed)
      expect(rows.low).toBe(true)
    }),
    { numRuns: 20 },
  )
})

test('what was taken is not held, though rows behind it wait: the limit is one of memory', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const rows = new ReceivedRows(1e6)
  const held = (() => {
    const row = rowOf(1, 'x'.repeat(100_000))
    rows.push(row)
    rows.push(rowOf(2))
    return new WeakRef(row)
  })()
  rows.take(1, 1e6)
  for (let turn = 0; turn < 20 && held.deref() !== undefined; turn += 1) {
    await nextTurn()
    collect()
  }
  expect(held.deref()).toBeUndefined()
  expect(positionsOf(rows.take(1, 1e6))).toEqual([2])
})
