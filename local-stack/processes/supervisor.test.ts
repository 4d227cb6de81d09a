import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { waitUntil } from '../wait-until.ts'
import { startChild } from './child.ts'
import { openProcessLedger } from './process-ledger.ts'
import { describeDeath, supervise, type Death } from './supervisor.ts'

const folder = mkdtempSync(join(tmpdir(), 'sluice-supervisor-'))
afterAll(() => rmSync(folder, { recursive: true }))

const ledger = openProcessLedger(folder)
const launching = (script: string) => () =>
  startChild({
    name: 'sample',
    tier: 'service',
    command: process.execPath,
    args: ['-e', script],
    cwd: folder,
    env: process.env,
    logFile: join(folder, 'sample.log'),
    ledger,
    stopSteps: [
      { signal: 'SIGTERM', waitMs: 500 },
      { signal: 'SIGKILL', waitMs: 5_000 },
    ],
  })
const quick = { firstMs: 10, capMs: 40 }
const sleeps = 'setInterval(() => {}, 1000)'

test('a process that dies is said so and started again', async () => {
  const deaths: Death[] = []
  await using stack = new AsyncDisposableStack()
  const supervised = await supervise({
    name: 'sample',
    launch: launching(`console.log('running'); ${sleeps}`),
    onDeath: (death) => deaths.push(death),
    backoff: quick,
  })
  stack.defer(() => supervised.stop())
  const { pid } = supervised
  await waitUntil(() => supervised.first.logTail().includes('running'), { what: 'its first line' })
  supervised.kill('SIGKILL')
  await waitUntil(() => supervised.pid !== undefined && supervised.pid !== pid, {
    what: 'a new pid',
  })
  expect(deaths).toMatchObject([{ exit: { signal: 'SIGKILL' }, inARow: 1, logTail: 'running' }])
  expect(describeDeath(deaths[0]!)).toMatch(
    /^sample died \(signal SIGKILL\), started again in 0\.0 s/,
  )
})

test('deaths in a row wait longer, up to the cap', async () => {
  const deaths: Death[] = []
  const supervised = await supervise({
    name: 'sample',
    launch: launching('process.exit(3)'),
    onDeath: (death) => deaths.push(death),
    backoff: quick,
    random: () => 1,
  })
  await waitUntil(() => deaths.length >= 4, { what: 'four deaths' })
  await supervised.stop()
  expect(deaths.slice(0, 4).map((death) => death.againInMs)).toEqual([10, 20, 40, 40])
  expect(deaths[0]?.exit.code).toBe(3)
})

test('what was stopped on purpose stays stopped, by force when it must be', async () => {
  const deaths: Death[] = []
  const supervised = await supervise({
    name: 'sample',
    launch: launching(`process.on('SIGTERM', () => {}); console.log('deaf'); ${sleeps}`),
    onDeath: (death) => deaths.push(death),
    backoff: quick,
  })
  await waitUntil(() => supervised.first.logTail().includes('deaf'), { what: 'its first line' })
  await supervised.stop()
  expect(await supervised.first.exited).toEqual({ code: null, signal: 'SIGKILL' })
  expect(supervised.pid).toBeUndefined()
  expect(deaths).toEqual([])
})

test('a launch that fails later counts as a death', async () => {
  const deaths: Death[] = []
  let launches = 0
  const supervised = await supervise({
    name: 'sample',
    launch() {
      launches++
      if (launches === 2) throw new Error('no room')
      return launching(launches === 1 ? '' : sleeps)()
    },
    onDeath: (death) => deaths.push(death),
    backoff: quick,
  })
  await waitUntil(() => launches >= 3 && supervised.pid !== undefined, { what: 'the third launch' })
  await supervised.stop()
  expect(deaths.map((death) => death.inARow)).toEqual([1, 2])
  expect(describeDeath(deaths[1]!)).toMatch(/sample did not start[\s\S]*no room/)
})

test('a program that is not there is a clear error', async () => {
  const missing = startChild({
    name: 'ghost',
    tier: 'tool',
    command: join(folder, 'ghost'),
    args: [],
    cwd: folder,
    env: {},
    logFile: join(folder, 'ghost.log'),
    ledger,
    stopSteps: [],
  })
  await expect(missing).rejects.toMatchObject({ code: 'spawn_failed' })
})
