// The real `npm start`, with ports and a data folder of its own, through every kind of death.
import { execFileSync, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { dumpTopic } from 'kafka/topic-dump'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { lockHolder } from './processes/data-lock.ts'
import { findFreePorts, requireFreePorts } from './processes/ports.ts'
import { isSameProcess } from './processes/process-identity.ts'
import type { ProcessRecord } from './processes/process-ledger.ts'
import { lessonsOf, runLessons } from './readme-lessons.ts'
import { tryIt } from './welcome.ts'
import { ensureTestJars } from './test-servers.ts'
import { waitUntil } from './wait-until.ts'

const repository = fileURLToPath(new URL('..', import.meta.url))
const startMs = 60_000

let parent: string
let folder: string
let environment: NodeJS.ProcessEnv
let ports: number[]
const started: { end(): Promise<void> }[] = []

beforeAll(async () => {
  await ensureTestJars()
  parent = mkdtempSync(join(realpathSync(tmpdir()), 'sluice-start-'))
  chmodSync(parent, 0o755)
  folder = join(parent, 'data')
  ports = await findFreePorts(7)
  const [command, query, relay, postgres, kafka, controller, connect] = ports.map(String)
  environment = {
    ...process.env,
    TMPDIR: parent,
    SLUICE_DATA_DIR: folder,
    COMMAND_API_PORT: command,
    QUERY_API_PORT: query,
    RELAY_PORT: relay,
    POSTGRES_PORT: postgres,
    KAFKA_PORT: kafka,
    KAFKA_CONTROLLER_PORT: controller,
    CONNECT_PORT: connect,
  }
})
afterEach(async () => {
  for (const start of started.splice(0)) await start.end()
})
afterAll(() => rmSync(parent, { recursive: true, force: true }))

function npmStart(...args: string[]) {
  const child = spawn('npm', ['start', '--', ...args], {
    cwd: repository,
    env: environment,
    // A group of its own, as a terminal gives it: Ctrl-C goes to npm and to what it runs.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes: Buffer) => (output += bytes.toString()))
  }
  let code: number | null | undefined
  const exited = once(child, 'close').then(([status]) => (code = status as number | null))
  const start = {
    output: () => output,
    exited,
    /** Resolves when the output has the text; throws as soon as the start has ended without it. */
    async says(text: string | RegExp): Promise<void> {
      await waitUntil(() => output.match(text) !== null || code !== undefined, {
        what: `the start to say ${text}`,
        deadlineMs: startMs,
      })
      if (output.match(text) === null) throw new Error(`it ended (${code}), saying:\n${output}`)
    },
    pressCtrlC() {
      if (code === undefined) process.kill(-(child.pid ?? 0), 'SIGINT')
    },
    kill9: async () => {
      const holder = lockHolder(folder)
      if (holder === undefined) throw new Error('nobody holds the folder')
      process.kill(holder.pid, 'SIGKILL')
      await exited
    },
    async end(): Promise<void> {
      if (code !== undefined) return
      start.pressCtrlC()
      await exited
    },
  }
  started.push(start)
  return start
}

const records = () =>
  JSON.parse(readFileSync(join(folder, 'processes.json'), 'utf8')) as ProcessRecord[]

const running = (recorded: ProcessRecord[]) =>
  recorded.filter(isSameProcess).map(({ name }) => name)

/** Runs the lines that the start has printed for pasting; gives what the last one prints. */
function paste(output: string): { id: string; ledgerBalance: string } {
  const lines =
    output
      .slice(output.indexOf(tryIt) + tryIt.length)
      .trim()
      .split('\n\n')[0] ?? ''
  return JSON.parse(execFileSync('sh', ['-c', lines], { encoding: 'utf8' }))
}

function readAccount(output: string, id: string): { ledgerBalance: string } {
  const key = /key=(\S+)/.exec(output)?.[1]
  const url = `http://127.0.0.1:${ports[1]}/accounts/${id}`
  const args = ['-sS', '-H', `Authorization: Bearer ${key}`, url]
  return JSON.parse(execFileSync('curl', args, { encoding: 'utf8' }))
}

async function allPortsFree(): Promise<void> {
  const uses = ports.map((port) => ({ port, host: '127.0.0.1', what: 'x', variable: 'X' }))
  await requireFreePorts(uses)
}

describe('npm start', () => {
  let account: string

  test('shows one account from commit to projection, and its printed lines work', async () => {
    const start = npmStart()
    await start.says(/Ctrl-C stops everything/)
    const ms = String.raw`\d+ ms`
    expect(start.output()).toMatch(
      new RegExp(
        String.raw`✓ proof +\S+: committed ${ms} → outbox position \d+ → ` +
          String.raw`account-events-\d+@\d+ → read from the projection ${ms}`,
      ),
    )
    const read = paste(start.output())
    expect(read.ledgerBalance).toBe('1250')
    account = read.id

    const second = npmStart()
    await second.exited
    expect(second.output()).toContain(`${folder} is in use by pid ${lockHolder(folder)?.pid}`)

    const relay = records().find(({ name }) => name === 'outbox-relay')
    process.kill(relay?.pid ?? 0, 'SIGKILL')
    await start.says(/outbox-relay died \(signal SIGKILL\), started again in/)
    await start.says(/outbox-relay runs again, pid \d+/)

    const all = records()
    expect(all.map(({ name }) => name).toSorted()).toEqual([
      'command-api',
      'kafka',
      'outbox-relay',
      'postgres',
      'query-api',
    ])
    start.pressCtrlC()
    await start.exited
    expect(start.output()).toMatch(
      /✓ services +stopped[\s\S]*✓ Kafka +stopped[\s\S]*✓ PostgreSQL +stopped/,
    )
    expect(running(all)).toEqual([])
    expect(existsSync(join(folder, 'lock'))).toBe(false)
    await allPortsFree()
  }, 180_000)

  test('goes on with its data, also after a kill -9 in the middle of its work', async () => {
    const start = npmStart()
    await start.says(/Ctrl-C stops everything/)
    expect(start.output()).toMatch(/PostgreSQL .*data kept from before/)
    expect(readAccount(start.output(), account).ledgerBalance).toBe('1250')
    const orphans = records()
    await start.kill9()
    expect(running(orphans)).toHaveLength(5)

    const next = npmStart()
    await next.says(/stopped leftovers: /)
    expect(running(orphans)).toEqual([])
    await next.says(/Ctrl-C stops everything/)
    expect(readAccount(next.output(), account).ledgerBalance).toBe('1250')
    await next.end()
    await allPortsFree()
  }, 180_000)
})

test('npm start works after one that was killed -9 while starting, whatever it was at', async () => {
  rmSync(folder, { recursive: true, force: true })
  for (const stage of [/✓ ports/, /✓ PostgreSQL/, /✓ Kafka/, /✓ access/]) {
    const killed = npmStart()
    await killed.says(stage)
    await killed.kill9()
  }
  const start = npmStart()
  await start.says(/Ctrl-C stops everything/)
  const all = records()
  await start.end()
  expect(running(all)).toEqual([])
  await allPortsFree()
}, 240_000)

describe('a system that runs', () => {
  let key: string
  let place: string
  let end: () => Promise<void>

  beforeAll(async () => {
    const start = npmStart('--ephemeral')
    await start.says(/Ctrl-C stops everything/)
    // It serves all tests here: not the end of each is its end.
    started.pop()
    end = start.end
    key = /key=(\S+)/.exec(start.output())?.[1] ?? ''
    place = /data folder +(\S+)/.exec(start.output())?.[1] ?? ''
  }, startMs)
  afterAll(() => end())

  test.each([
    ['Try it', 4],
    ['A day at a small bank', 11],
  ])(
    "README.md's own commands of %s work as they stand, and print what it shows",
    (name, shown) => {
      expect(runReadme(name, key)).toBe(shown)
    },
  )

  test("README.md's commands for operators do so with an operator's key", async () => {
    expect(runReadme('Three modes', await operatorsKey(place))).toBeGreaterThan(0)
  }, 30_000)

  test('what a request says of itself is on each record that comes of it', async () => {
    const [a, b] = [await opened(key), await opened(key)]
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    const correlation = `rent-${randomUUID()}`
    const headers = { traceparent, 'Correlation-Id': correlation }
    const answer = await command(key, '/transfers', { from: a, to: b, amount: '5' }, headers)
    expect(answer.headers.get('correlation-id')).toBe(correlation)
    const [out, into] = [await recordOf(a, '3'), await recordOf(b, '3')]
    for (const record of [out, into]) {
      expect(record).toMatchObject({ traceparent, ce_correlationid: correlation })
    }
    // Both halves are of one command, which is no other's.
    expect(out?.['ce_causationid']).toMatch(/^[0-9a-f-]{36}$/)
    expect(into?.['ce_causationid']).toBe(out?.['ce_causationid'])
    expect((await recordOf(a, '1'))?.['ce_causationid']).not.toBe(out?.['ce_causationid'])
    expect([out?.['ce_type'], into?.['ce_type']]).toEqual([
      'FundsTransferredOut.v1',
      'FundsTransferredIn.v1',
    ])
  }, 60_000)
})

function command(key: string, path: string, body: object, headers: Record<string, string> = {}) {
  const said = {
    Authorization: `Bearer ${key}`,
    'Idempotency-Key': randomUUID(),
    'Content-Type': 'application/json',
  }
  const init = { method: 'POST', headers: { ...said, ...headers }, body: JSON.stringify(body) }
  return fetch(`http://127.0.0.1:${ports[0]}${path}`, init)
}

/** A new account's id, with money on it: it is at version 2. */
async function opened(key: string): Promise<string> {
  const body = { owner: 'Ada', currency: 'EUR', openingDeposit: '10' }
  return ((await (await command(key, '/accounts', body)).json()) as { id: string }).id
}

/** The headers of the record of an account's event, once it is in Kafka. */
function recordOf(account: string, version: string) {
  return waitUntil(
    async () => {
      const records = await dumpTopic([`127.0.0.1:${ports[4]}`], 'account-events')
      const own = records.filter((record) => record.key === account)
      const headers = own.map((record) => Object.fromEntries(record.headers))
      return headers.find((each) => each['ce_sequence'] === version)
    },
    { what: `version ${version} of ${account} in Kafka`, deadlineMs: 20_000 },
  )
}

/** How many answers it shows, each of which was as shown. */
function runReadme(section: string, key: string): number {
  const lessons = lessonsOf(readFileSync(join(repository, 'README.md'), 'utf8'), section)
  const [command, query, relay] = ports.map((port) => `127.0.0.1:${port}`)
  const printed = runLessons(lessons, {
    addresses: { 4010: command ?? '', 4020: query ?? '', 4030: relay ?? '' },
    key,
  })
  for (const [index, { shown }] of lessons.entries()) {
    if (shown !== undefined) expect(JSON.parse(printed[index] ?? '')).toMatchObject(shown)
  }
  return lessons.filter(({ shown }) => shown !== undefined).length
}

/** A new one, once the relay knows it. */
async function operatorsKey(place: string): Promise<string> {
  const args = ['service/access-key.ts', join(place, 'access-keys.json'), 'olga', 'operator']
  const key = execFileSync(process.execPath, args, { cwd: repository, encoding: 'utf8' }).trim()
  const headers = { Authorization: `Bearer ${key}` }
  const known = async () =>
    (await fetch(`http://127.0.0.1:${ports[2]}/relay`, { headers })).status === 200
  await waitUntil(known, { what: 'the key to be known', deadlineMs: 10_000 })
  return key
}

test('npm start -- --ephemeral leaves nothing behind, and a second Ctrl-C ends it at once', async () => {
  const start = npmStart('--ephemeral')
  await start.says(/Ctrl-C stops everything, and the data are removed/)
  const place = /data folder +(\S+)/.exec(start.output())?.[1] ?? ''
  expect(existsSync(place)).toBe(true)
  await start.end()
  expect(existsSync(place)).toBe(false)

  const impatient = npmStart('--ephemeral')
  await impatient.says(/✓ access/)
  const second = /data folder +(\S+)/.exec(impatient.output())?.[1] ?? ''
  const all = JSON.parse(readFileSync(join(second, 'processes.json'), 'utf8')) as ProcessRecord[]
  impatient.pressCtrlC()
  await impatient.says(/once more kills/)
  // The repetition within one key press is ignored; what comes later is meant.
  const insisting = setInterval(() => impatient.pressCtrlC(), 150)
  try {
    await impatient.exited
  } finally {
    clearInterval(insisting)
  }
  await waitUntil(() => running(all).length === 0, { what: 'the end of all processes' })
}, 180_000)
