import { describe, expect, it } from 'vitest'
import { backoffMs, pause } from './backoff.ts'

const bounds = { firstMs: 10, capMs: 500 }

describe('backing off', () => {
  it('doubles with each failure up to the cap', () => {
    const longest = [1, 2, 3, 7, 100].map((failures) => backoffMs(failures, bounds, () => 1))
    expect(longest).toEqual([10, 20, 40, 500, 500])
  })

  it('spreads over the upper half, so that many do not come back at once', () => {
    expect(backoffMs(3, bounds, () => 0)).toBe(20)
    expect(backoffMs(3, bounds, () => 0.5)).toBe(30)
  })

  it('ends at once when told to stop', async () => {
    const stop = new AbortController()
    const paused = pause(60_000, stop.signal)
    stop.abort()
    await expect(paused).resolves.toBeUndefined()
    await expect(pause(60_000, stop.signal)).resolves.toBeUndefined()
  })
})
