import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { processIdentity } from './process-identity.ts'
import { openProcessLedger, stopOrphans } from './process-ledger.ts'

let folder: string
const started: ChildProcess[] = []
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'sluice-ledger-'))))
afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL')
  rmSync(folder, { recursive: true })
})

async function start(script: string, env: Record<string, string> = {}) {
  const code = `${script}; setInterval(() => {}, 1000); process.stdout.write('up')`
  const child = spawn(process.execPath, ['-e', code], { env: { ...process.env, ...env } })
  started.push(child)
  await once(child.stdout, 'data')
  return { child, pid: child.pid ?? 0, exit: once(child, 'exit') }
}

test('what was recorded and still runs is stopped, services before Kafka', async () => {
  const ledger = openProcessLedger(folder)
  const order = join(folder, 'order')
  const noting = (name: string) =>
    `process.on('SIGTERM', () => {
      require('node:fs').appendFileSync(${JSON.stringify(order)}, '${name} ')
      process.exit()
    })`
  const kafka = await start(noting('kafka'))
  const service = await start(noting('service'))
  ledger.add({ name: 'kafka', tier: 'kafka', pid: kafka.pid })
  ledger.add({ name: 'query-api', tier: 'service', pid: service.pid })
  expect(await stopOrphans(folder)).toEqual(['kafka', 'query-api'])
  expect(await kafka.exit).toEqual([0, null])
  expect(readFileSync(order, 'utf8')).toBe('service kafka ')
})

test('a process that has a recorded pid but another start time is left alone', async () => {
  const stranger = await start('')
  const record = { name: 'kafka', tier: 'kafka', pid: stranger.pid, identity: 'of another time' }
  writeFileSync(join(folder, 'processes.json'), JSON.stringify([record]))
  expect(await stopOrphans(folder)).toEqual([])
  expect(processIdentity(stranger.pid)).toBeDefined()
})

test('what ignores SIGTERM is killed after its time', async () => {
  const stubborn = await start("process.on('SIGTERM', () => {})")
  openProcessLedger(folder).add({ name: 'stubborn', tier: 'service', pid: stubborn.pid })
  await stopOrphans(folder, 200)
  expect(await stubborn.exit).toEqual([null, 'SIGKILL'])
})

test.runIf(process.platform === 'linux')(
  'a child that was not yet recorded when we were killed is known by its mark',
  async () => {
    const marked = await start('', openProcessLedger(folder).mark)
    const other = await start('', openProcessLedger(`${folder}-other`).mark)
    expect(await stopOrphans(folder)).toHaveLength(1)
    expect(await marked.exit).toEqual([null, 'SIGTERM'])
    expect(processIdentity(other.pid)).toBeDefined()
  },
)

test('what has ended in order is forgotten', async () => {
  const ledger = openProcessLedger(folder)
  const child = await start('')
  ledger.add({ name: 'x', tier: 'service', pid: child.pid })
  ledger.remove(child.pid)
  expect(JSON.parse(readFileSync(join(folder, 'processes.json'), 'utf8'))).toEqual([])
})

test('killing all ends what is recorded at once', async () => {
  const ledger = openProcessLedger(folder)
  const child = await start("process.on('SIGTERM', () => {})")
  ledger.add({ name: 'x', tier: 'service', pid: child.pid })
  ledger.killAll()
  expect(await child.exit).toEqual([null, 'SIGKILL'])
})
