import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { waitUntil } from 'local-stack'
import { testDatabases, type TestDatabases } from 'local-stack/test-databases'
import { Client } from 'pg'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { lockNumber } from './ledger.ts'
import { openWire } from './test-wire.ts'

// The real process, killed where it hurts: what its callers were not told, their keys bring.

const main = fileURLToPath(new URL('./main.ts', import.meta.url))
let databases: TestDatabases
let admin: Client

beforeAll(async () => {
  databases = await testDatabases()
  admin = new Client({ connectionString: databases.write() })
  await admin.connect()
})
afterAll(async () => {
  await admin.end()
  await databases[Symbol.asyncDispose]()
})

async function start(writeUrl: string) {
  const child = spawn(process.execPath, [main], {
    env: {
      PATH: process.env['PATH'],
      AUTH: 'off',
      COMMAND_API_PORT: '0',
      WRITE_DATABASE_URL: writeUrl,
      HEARTBEAT_SECONDS: '0',
      HOLD_EXPIRY_SECONDS: '0',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  }
  const exited = once(child, 'exit')
  const kill = async () => {
    child.kill('SIGKILL')
    await exited
  }
  onTestFinished(kill)
  const url = await waitUntil(() => /"url":"([^"]+)"/.exec(output)?.[1], { what: 'its address' })
  async function send(path: string, body: object, key: string = randomUUID()) {
    const headers = { 'idempotency-key': key, 'content-type': 'application/json' }
    const response = await fetch(`${url}${path}`, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
    })
    const { status } = response
    const replayed = response.headers.get('idempotent-replayed') === 'true'
    return { status, replayed, etag: response.headers.get('etag'), text: await response.text() }
  }
  return { kill, send }
}

const openAccount = (id: string) => ({ id, owner: 'Ada', currency: 'EUR', openingDeposit: '10' })
const withdrawal = { amount: '4', currency: 'EUR' }

const standing = async (id: string) =>
  (
    await admin.query(
      'select ledger_balance as balance, version::int from ledger.accounts where id = $1',
      [id],
    )
  ).rows[0]

it('killed between commit and answer, another gives the first answer under the key', async () => {
  await using wire = await openWire(databases.write('sluice_command'))
  const first = await start(wire.url)
  await first.send('/accounts', openAccount('committed'))
  const key = randomUUID()
  wire.goDeafAfter('commit\0')
  const unanswered = first
    .send('/accounts/committed/withdrawals', withdrawal, key)
    .catch(() => null)
  await waitUntil(async () => (await standing('committed')).version === 3, { what: 'the commit' })
  await first.kill()
  expect(await unanswered).toBe(null)
  const second = await start(databases.write('sluice_command'))
  const told = await second.send('/accounts/committed/withdrawals', withdrawal, key)
  expect(told).toMatchObject({ status: 201, replayed: true, etag: '"3"' })
  expect(JSON.parse(told.text).account.ledgerBalance).toBe('6')
  expect(await standing('committed')).toEqual({ balance: '6', version: 3 })
})

it('killed before its commit, another does what the key was sent for, once', async () => {
  await using wire = await openWire(databases.write('sluice_command'))
  const first = await start(wire.url)
  await first.send('/accounts', openAccount('uncommitted'))
  const key = randomUUID()
  wire.goDeafAfter('begin')
  const unanswered = first
    .send('/accounts/uncommitted/withdrawals', withdrawal, key)
    .catch(() => null)
  const holding = `select from pg_locks where locktype = 'advisory' and granted
    and (classid::bigint << 32) | objid::bigint = $1`
  const number = String(lockNumber({ caller: 'anonymous', key }))
  const held = async () => (await admin.query(holding, [number])).rowCount === 1
  await waitUntil(held, { what: 'its lock' })
  await first.kill()
  expect(await unanswered).toBe(null)
  const second = await start(databases.write('sluice_command'))
  const told = await second.send('/accounts/uncommitted/withdrawals', withdrawal, key)
  expect(told).toMatchObject({ status: 201, replayed: false, etag: '"3"' })
  expect(await standing('uncommitted')).toEqual({ balance: '6', version: 3 })
})

it('two of them, sent one key fifty times at once, give one effect and fifty equal answers', async () => {
  const processes = await Promise.all([1, 2].map(() => start(databases.write('sluice_command'))))
  const [one] = processes
  await one!.send('/accounts', openAccount('fifty'))
  const key = randomUUID()
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, n) =>
      processes[n % 2]!.send('/accounts/fifty/withdrawals', withdrawal, key),
    ),
  )
  const distinct = new Set(answers.map(({ status, etag, text }) => `${status} ${etag} ${text}`))
  expect(distinct.size).toBe(1)
  expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1)
  expect(await standing('fifty')).toEqual({ balance: '6', version: 3 })
})
