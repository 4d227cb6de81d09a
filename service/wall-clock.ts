/** What goes by the wall clock, such as a task of node-cron. */
type Scheduled = { destroy: () => unknown }

type Clocks = { wallMs: () => number; steadyMs: () => number; lookIntervalMs: number }

const ownClocks: Clocks = {
  wallMs: () => Date.now(),
  steadyMs: () => performance.now(),
  lookIntervalMs: 2_000,
}
/** More than a clock that is slewed goes wrong between two looks. */
const stepMs = 1_000

/**
 * Begins a schedule, and begins it anew whenever the wall clock is set: it waits for a moment that it has
 * computed, which a clock set back by an hour puts off by that hour. Disposing awaits its end.
 */
export function onWallClock(begin: () => Scheduled, clocks = ownClocks): AsyncDisposable {
  const { wallMs, steadyMs, lookIntervalMs } = clocks
  let scheduled = begin()
  let before = wallMs() - steadyMs()
  const looking = setInterval(() => {
    const now = wallMs() - steadyMs()
    const wasSet = Math.abs(now - before) > stepMs
    before = now
    if (!wasSet) return
    void scheduled.destroy()
    scheduled = begin()
  }, lookIntervalMs)
  looking.unref()
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(looking)
      await scheduled.destroy()
    },
  }
}
