import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { testBrokers, testDatabases } from 'local-stack/test-databases'
import { expect, onTestFinished, test, vi } from 'vitest'

const main = fileURLToPath(new URL('./main.ts', import.meta.url))

function start(env: Record<string, string>) {
  const child = spawn(process.execPath, [main], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  }
  const exited = once(child, 'exit') as Promise<[number | null, string | null]>
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
  })
  return { child, exited, output: () => output }
}

test('the process starts, joins its group, answers, and ends with 0 when told to stop', async () => {
  await using databases = await testDatabases()
  const { child, exited, output } = start({
    AUTH: 'off',
    QUERY_API_PORT: '0',
    READ_DATABASE_URL: databases.read('sluice_query'),
    PROJECTOR_DATABASE_URL: databases.read('sluice_projector'),
    KAFKA_BROKERS: testBrokers().join(','),
    CURSOR_SECRET: 'a secret of at least 32 characters',
    HEARTBEAT_SECONDS: '0',
  })
  const url = await vi.waitUntil(() => /"url":"([^"]+)"/.exec(output())?.[1], { timeout: 10_000 })
  await vi.waitUntil(
    async () => {
      const response = await fetch(`${url}/projections`)
      const body = (await response.json()) as { items: { partitions: { state: string }[] }[] }
      return body.items[0]!.partitions.filter(({ state }) => state !== 'elsewhere').length === 12
    },
    { timeout: 20_000, interval: 50 },
  )
  expect((await fetch(`${url}/accounts/nobody`)).status).toBe(404)
  const stoppedAt = performance.now()
  child.kill('SIGTERM')
  expect((await exited)[0]).toBe(0)
  expect(performance.now() - stoppedAt).toBeLessThan(3_000)
  expect(output()).not.toContain('postgres://')
})

test('bad settings are named together, no value is shown, and the exit code says so', async () => {
  const { exited, output } = start({ CURSOR_SECRET: 'short secret', KAFKA_BROKERS: 'nowhere' })
  expect((await exited)[0]).toBe(78)
  for (const name of ['READ_DATABASE_URL', 'PROJECTOR_DATABASE_URL', 'CURSOR_SECRET']) {
    expect(output()).toContain(name)
  }
  expect(output()).not.toContain('short secret')
})
