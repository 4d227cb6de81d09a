import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Child, type DataFolder, waitUntil } from 'local-stack'
import { expect, test } from 'vitest'
import { type Ending, ServiceProcess } from './service-process.ts'

// Which endings are asked for: of processes that are none, told apart by nothing but their ends.

type Exit = Pick<Ending, 'code' | 'signal'>
const killed: Exit = { code: null, signal: 'SIGKILL' }
const drained: Exit = { code: 0, signal: null }

/** A service whose processes end by kill -9, and otherwise as `end` says, SIGTERM or not. */
async function openService(beforeNext: (service: ServiceProcess) => void = () => {}) {
  const stack = new AsyncDisposableStack()
  const answering = createServer((_, response) => response.end())
  stack.defer(() => answering.close().closeAllConnections())
  await once(answering.listen(0, '127.0.0.1'), 'listening')
  let launches = 0
  let running: (exit: Exit) => void = () => {}
  const launch = async (): Promise<Child> => {
    const { promise: exited, resolve } = Promise.withResolvers<Exit>()
    running = resolve
    if (launches > 0) beforeNext(service)
    launches += 1
    const kill = (signal: NodeJS.Signals) => void (signal === 'SIGKILL' && resolve(killed))
    const stop = async () => resolve(drained)
    return { name: 'sample', pid: launches, logFile: '', exited, kill, stop, logTail: () => '' }
  }
  const service = new ServiceProcess({
    name: 'outbox-relay',
    label: 'sample',
    url: `http://127.0.0.1:${(answering.address() as AddressInfo).port}`,
    env: {},
    dataFolder: {} as DataFolder,
    launch,
  })
  await service.start()
  stack.defer(() => service.stop())
  /** Ends the process that runs, and resolves when the next one does. */
  const end = async (exit: Exit) => {
    const before = launches
    running(exit)
    await waitUntil(() => launches > before && service.pid === launches, { what: 'its successor' })
  }
  const asked = () => service.endings.map((ending) => ending.asked)
  return { service, end, asked, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

test('a process that is killed as it shuts down hides no ending of those after it', async () => {
  await using sample = await openService()
  const { service, end } = sample
  service.patchNext([], 3)
  service.kill('SIGKILL')
  await end(killed)
  service.kill('SIGTERM')
  await end(killed)
  await end(killed)
  await end(drained)
  expect(sample.asked()).toEqual([true, true, false, false])
})

test('kill -9 and a restart are asked for, each once', async () => {
  await using sample = await openService()
  const { service, end } = sample
  await service.killHard()
  await waitUntil(() => service.pid === 2, { what: 'its successor' })
  service.kill('SIGTERM')
  await end(drained)
  await end(drained)
  expect(sample.asked()).toEqual([true, true, false])
})

test('SIGTERM asks for code 0, and a pause for nothing', async () => {
  await using sample = await openService()
  const { service, end } = sample
  service.kill('SIGTERM')
  await end({ code: 1, signal: null })
  service.kill('SIGTERM')
  await end(killed)
  service.kill('SIGSTOP')
  service.kill('SIGCONT')
  await end(drained)
  expect(sample.asked()).toEqual([false, false, false])
})

test('what is sent while none runs asks nothing of the next', async () => {
  await using sample = await openService((service) => service.kill('SIGTERM'))
  const { service, end } = sample
  service.kill('SIGTERM')
  await end(drained)
  await end(drained)
  expect(sample.asked()).toEqual([true, false])
})

test('a point kills by -9 and once: what is armed and drains was not asked to', async () => {
  await using sample = await openService()
  const { service, end } = sample
  service.patchNext([], 3)
  await end(killed)
  await end(drained)
  expect(sample.asked()).toEqual([false, false])
})
