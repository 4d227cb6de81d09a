import { expect, test, vi } from 'vitest'
import { onWallClock } from './wall-clock.ts'

const hourMs = 3_600_000

test('a schedule begins anew when the wall clock is set, either way, and not when it is slewed', async () => {
  let [setMs, driftMs, slewMs, destroyed] = [0, 0, 0, 0]
  const begin = vi.fn<() => { destroy: () => unknown }>(() => ({ destroy: () => (destroyed += 1) }))
  const steadyMs = () => performance.now()
  const wallMs = () => steadyMs() + setMs + (driftMs += slewMs)
  await using _ = onWallClock(begin, { steadyMs, wallMs, lookIntervalMs: 5 })
  for (const [n, to] of [-hourMs, 0, hourMs].entries()) {
    setMs = to
    await vi.waitFor(() => expect(begin).toHaveBeenCalledTimes(n + 2))
  }
  slewMs = 900
  await vi.waitFor(() => expect(driftMs).toBeGreaterThan(20 * slewMs))
  expect(begin).toHaveBeenCalledTimes(4)
  expect(destroyed).toBe(3)
})
