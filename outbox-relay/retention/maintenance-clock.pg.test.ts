import { waitUntil } from 'local-stack/wait-until'
import { openLog } from 'service/log'
import { afterEach, expect, test } from 'vitest'
import { readConfig } from '../config.ts'
import { testOutbox } from '../test-outbox.ts'
import { newMaintenanceState, openMaintenance } from './maintenance.ts'

const Wall = globalThis.Date
const realNow = Wall.now
afterEach(() => {
  Wall.now = realNow
  globalThis.Date = Wall
})

/** As a clock of the machine that somebody sets: nothing but the wall clock of this process. */
function setBy(offByMs: number): void {
  Wall.now = () => realNow() + offByMs
  globalThis.Date = new Proxy(Wall, {
    construct: (target, given, newTarget) =>
      Reflect.construct(target, given.length === 0 ? [Wall.now()] : given, newTarget) as object,
  })
}

test('partitions are maintained on, though the wall clock is set back or forward by an hour', async () => {
  await using outbox = await testOutbox()
  const config = readConfig({
    WRITE_DATABASE_URL: outbox.relayUrl,
    KAFKA_BROKERS: 'localhost:9',
    AUTH: 'off',
    MAINTENANCE_DATABASE_URL: outbox.maintenanceUrl,
    MAINTENANCE_SCHEDULE: '* * * * * *',
  })
  const state = newMaintenanceState()
  const log = openLog('outbox-relay', 'silent')
  await using _ = openMaintenance(config, { state, log })
  const another = async (what: string) => {
    const { last } = state
    await waitUntil(() => state.last !== last, { what, deadlineMs: 15_000 })
  }
  await another('the first run')
  for (const hours of [-1, 1]) {
    setBy(hours * 3_600_000)
    await another(`a run, the clock being off by ${hours} h`)
    await another('the run after it')
  }
  expect(state.failures).toBe(0)
})
