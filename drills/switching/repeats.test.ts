import { expect, test } from 'vitest'
import type { LedSample } from '../progress-watch.ts'
import { unexplained, type Way } from './repeats.ts'

const saved = (atMs: number, next: bigint, epoch = '1'): LedSample => ({
  atMs,
  next,
  gaps: [[50n, 50n]],
  epoch,
})
const toWal: Way[] = [{ from: 'polling', to: 'wal', fromMs: 10_000 }]
const count = (
  position: bigint,
  [firstMs, atMs]: [number, number],
  led: LedSample[],
  ways = toWal,
) => unexplained([{ position, firstMs, atMs }], ways, led).length

test('with one leader nothing comes twice', () => {
  const led = [saved(9_950, 90n), saved(10_050, 110n)]
  expect(unexplained([{ position: 100n, firstMs: 9_990, atMs: 10_020 }], toWal, led)).toEqual([
    'polling to wal: position 100 came again 30 ms later',
  ])
  expect(unexplained([{ position: 100n, firstMs: 10, atMs: 20 }], toWal, led)).toEqual([
    'before any switch: position 100 came again 10 ms later',
  ])
})

test('who takes over sends again what was not saved, and that was sent a moment before', () => {
  const led = [saved(11_000, 100n), saved(12_100, 100n, '2'), saved(12_200, 140n, '2')]
  expect(count(100n, [11_010, 12_150], led)).toBe(0)
  expect(count(50n, [11_010, 12_150], led)).toBe(0)
  // It was saved as published.
  expect(count(99n, [10_990, 12_150], led)).toBe(1)
  // Not saved for longer than a save and a batch take.
  expect(count(100n, [8_900, 12_150], led)).toBe(1)
  // By the new leader, which has sent it itself.
  expect(count(140n, [13_200, 13_300], led)).toBe(1)
})

test('who was frozen with a batch may send it when it wakes, and nothing later', () => {
  const led = [saved(11_000, 100n), saved(12_100, 100n, '2'), saved(15_000, 500n, '2')]
  expect(count(101n, [12_150, 19_000], led)).toBe(0)
  expect(count(400n, [14_000, 19_000], led)).toBe(1)
})

test('a takeover explains nothing that was first sent at another time', () => {
  const led = [saved(11_000, 100n), saved(12_000, 100n, '2'), saved(15_000, 200n, '2')]
  const later = [...led, saved(16_000, 200n, '3')]
  expect(count(150n, [13_100, 16_100], later)).toBe(1)
  expect(count(150n, [12_100, 12_150], later)).toBe(0)
  expect(count(200n, [14_990, 16_100], later)).toBe(0)
})

test('a connector repeats what was not saved when it was left, or asked for', () => {
  const led = [saved(5_000, 100n), saved(9_000, 300n), saved(9_500, 310n)]
  const into: Way = { from: 'polling', to: 'debezium', fromMs: 5_000 }
  const out: Way = { from: 'debezium', to: 'polling', fromMs: 10_000 }
  expect(count(200n, [7_000, 9_800], led, [into, out])).toBe(0)
  expect(count(200n, [7_000, 10_500], led, [into, out])).toBe(0)
  expect(count(99n, [4_990, 10_500], led, [into, out])).toBe(1)
  // What it had sent before it was asked for anything else.
  const stay: Way = { from: 'debezium', to: 'debezium', fromMs: 9_200 }
  expect(count(299n, [8_000, 10_500], led, [into, stay, out])).toBe(1)
  expect(count(300n, [8_000, 10_500], led, [into, stay, out])).toBe(0)
  // However little is saved.
  expect(count(300n, [8_000, 23_500], led, [into, out])).toBe(1)
})
