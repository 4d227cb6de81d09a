import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { testBrokers, type TestDatabases, testDatabases } from 'local-stack/test-databases'
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

const settings = (databases: TestDatabases) => ({
  AUTH: 'off',
  QUERY_API_PORT: '0',
  READ_DATABASE_URL: databases.read('sluice_query'),
  PROJECTOR_DATABASE_URL: databases.read('sluice_projector'),
  KAFKA_BROKERS: testBrokers().join(','),
  CURSOR_SECRET: 'a secret of at least 32 characters',
  HEARTBEAT_SECONDS: '0',
})

const urlOf = ({ output }: ReturnType<typeof start>) =>
  vi.waitUntil(() => /"url":"([^"]+)"/.exec(output())?.[1], { timeout: 10_000 })

async function projectionsAt(url: string) {
  const body = (await (await fetch(`${url}/projections`)).json()) as { items: Report[] }
  return body.items
}
type Report = { name: string; state: string; partitions: { state: string; lag: number | null }[] }

test('the process starts, joins its group, answers, and ends with 0 when told to stop', async () => {
  await using databases = await testDatabases()
  const started = start(settings(databases))
  const { child, exited, output } = started
  const url = await urlOf(started)
  await vi.waitUntil(
    async () => {
      const [first] = await projectionsAt(url)
      return first!.partitions.filter(({ state }) => state !== 'elsewhere').length === 12
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

test('one process projects what it is told to and answers no reads, another only answers', async () => {
  await using databases = await testDatabases()
  const projecting = start({ ...settings(databases), PROJECTIONS: 'accounts', READS: 'off' })
  const answering = start({ ...settings(databases), PROJECTIONS: 'none' })
  const [own, other] = await Promise.all([urlOf(projecting), urlOf(answering)])
  await vi.waitUntil(async () => (await projectionsAt(own))[0]!.state === 'running', {
    timeout: 20_000,
    interval: 50,
  })
  expect((await fetch(`${own}/accounts`)).status).toBe(404)
  expect((await fetch(`${other}/accounts`)).status).toBe(200)
  expect((await fetch(`${other}/readyz`)).status).toBe(200)
  // No projector of this process looks at the log: it is asked for the report.
  const known = ({ partitions }: Report) => partitions.every(({ lag }) => lag !== null)
  const seen = await vi.waitUntil(
    async () => {
      const reports = await projectionsAt(other)
      return known(reports[0]!) && reports
    },
    { timeout: 20_000, interval: 50 },
  )
  expect(new Set(seen.map(({ state }) => state))).toEqual(new Set(['elsewhere']))
  const others = (await projectionsAt(own)).slice(1)
  expect(others.every(({ state }) => state === 'elsewhere')).toBe(true)
  for (const { child, exited } of [projecting, answering]) {
    child.kill('SIGTERM')
    expect((await exited)[0]).toBe(0)
  }
})

test('bad settings are named together, no value is shown, and the exit code says so', async () => {
  const { exited, output } = start({ CURSOR_SECRET: 'short secret', KAFKA_BROKERS: 'nowhere' })
  expect((await exited)[0]).toBe(78)
  for (const name of ['READ_DATABASE_URL', 'PROJECTOR_DATABASE_URL', 'CURSOR_SECRET']) {
    expect(output()).toContain(name)
  }
  expect(output()).not.toContain('short secret')
})
