import { describe, expect, it } from 'vitest'
import { backoffMs, pause, settledWithin } from './backoff.ts'

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

  it('waits for work within a limit, however the work ends, and leaves no timer', async () => {
    const timers = () =>
      process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    const before = timers()
    await settledWithin(Promise.resolve(), 60_000)
    await settledWithin(Promise.reject(new Error('ended badly')), 60_000)
    await settledWithin(new Promise(() => {}), 5)
    expect(timers()).toBe(before)
  })
})
