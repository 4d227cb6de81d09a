import { testDatabases } from 'local-stack/test-databases'
import { openPool } from 'migrations/database'
import { openLog } from 'service/log'
import { onTestFinished, test, vi } from 'vitest'
import { heartbeatIds } from './events.ts'
import { birth } from './form.ts'
import { runHeartbeat } from './heartbeat.ts'

test('each partition has a heartbeat soon after a start and after a failure, however seldom they come', async () => {
  const databases = await testDatabases()
  onTestFinished(() => databases[Symbol.asyncDispose]())
  const settings = { applicationName: 'heartbeat-test', maxConnections: 2, onError: () => {} }
  await using pool = openPool({ ...settings, url: databases.write('sluice_command') })
  await using admin = openPool({ ...settings, url: databases.write() })
  const beats = async () => {
    const { rows } = await admin.query<{ id: string; count: number }>(
      'select aggregateid as id, count(*)::int as count from outbox.events group by 1',
    )
    return rows.length === heartbeatIds.length ? Math.min(...rows.map(({ count }) => count)) : 0
  }
  const control = new AbortController()
  const log = openLog('test', 'silent')
  const run = (everySeconds: number) =>
    runHeartbeat({ pool, everySeconds, ...birth, signal: control.signal, log })
  const seldom = run(3_600)
  await vi.waitUntil(async () => (await beats()) === 1, { timeout: 10_000 })
  const often = run(1)
  await vi.waitUntil(async () => (await beats()) === 2, { timeout: 10_000 })
  await admin.query('alter table outbox.events rename to away')
  // It has missed some, and is no longer in its first round.
  const failed = vi.spyOn(log, 'warn')
  await vi.waitUntil(() => failed.mock.calls.length > 0, { timeout: 10_000 })
  await admin.query('alter table outbox.away rename to events')
  await vi.waitUntil(async () => (await beats()) === 3, { timeout: 5_000 })
  control.abort()
  await Promise.all([seldom, often])
})
