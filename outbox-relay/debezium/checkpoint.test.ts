import { describe, expect, test } from 'vitest'
import { hasPassed, standingOf, standsStillMs } from './checkpoint.ts'

describe('a checkpoint', () => {
  const checkpoint = { lsn: 0x1_0000_0010n }

  test('has passed once the slot is confirmed at its message or beyond', () => {
    expect(hasPassed(checkpoint, { confirmedFlush: '1/10' })).toBe(true)
    expect(hasPassed(checkpoint, { confirmedFlush: '2/0' })).toBe(true)
  })

  test('has not where the slot is a byte before it, or was never confirmed', () => {
    expect(hasPassed(checkpoint, { confirmedFlush: '1/F' })).toBe(false)
    expect(hasPassed(checkpoint, { confirmedFlush: '0/FFFFFFFF' })).toBe(false)
    expect(hasPassed(checkpoint, { confirmedFlush: null })).toBe(false)
  })
})

describe('a standstill', () => {
  const slotAt = (confirmedFlush: string) => ({ confirmedFlush })

  test('is counted from the checkpoint, not from before there was something to pass', () => {
    const standing = standingOf(undefined, slotAt('0/1'), 0)
    const later = standingOf(standing, slotAt('0/1'), 90_000)
    expect(standsStillMs({ takenMs: 60_000 }, later, 90_000)).toBe(30_000)
  })

  test('begins anew with every movement, however far the checkpoint is', () => {
    const standing = standingOf(undefined, slotAt('0/1'), 0)
    const moved = standingOf(standing, slotAt('0/2'), 20_000)
    expect(standsStillMs({ takenMs: 0 }, moved, 20_000)).toBe(0)
    const stands = standingOf(moved, slotAt('0/2'), 50_000)
    expect(standsStillMs({ takenMs: 0 }, stands, 50_000)).toBe(30_000)
  })
})
