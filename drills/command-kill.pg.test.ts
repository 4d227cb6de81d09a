import { randomUUID } from 'node:crypto'
import { findFreePorts, openDataFolder } from 'local-stack'
import { testDatabases } from 'local-stack/test-databases'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { killPoints } from './kill-points.ts'
import { ServiceProcess } from './service-process.ts'
import type { SourcePatch } from './source-patch.ts'

// A real command API, killed with -9 by itself between the commit and the answer.

const cleanup = new AsyncDisposableStack()
afterAll(() => cleanup.disposeAsync())

let service: ServiceProcess
let admin: Client
beforeAll(async () => {
  const databases = cleanup.use(await testDatabases())
  const dataFolder = cleanup.use(await openDataFolder())
  const [port = 0] = await findFreePorts(1)
  const env = {
    AUTH: 'off',
    COMMAND_API_PORT: String(port),
    WRITE_DATABASE_URL: databases.write('sluice_command'),
    HEARTBEAT_SECONDS: '0',
  }
  admin = new Client({ connectionString: databases.write() })
  await admin.connect()
  cleanup.defer(() => admin.end())
  const url = `http://127.0.0.1:${port}`
  service = new ServiceProcess({ name: 'command-api', label: 'command-api', url, env, dataFolder })
  await service.start()
  cleanup.defer(() => service.stop())
})

type Sent = { path: string; key: string; body: object }

/** The answer, or null when the connection ended without one. */
async function send({ path, key, body }: Sent) {
  try {
    const headers = { 'content-type': 'application/json', 'idempotency-key': key }
    const init = { method: 'POST', headers, body: JSON.stringify(body) }
    const response = await fetch(service.url + path, init)
    const { status } = response
    return { status, text: await response.text(), headers: response.headers }
  } catch {
    return null
  }
}

async function opened(): Promise<string> {
  const body = { owner: 'Ada', currency: 'EUR', openingDeposit: '1000' }
  const answer = await send({ path: '/accounts', key: randomUUID(), body })
  return JSON.parse(answer!.text).id
}

const kept = async (keys: readonly string[]) =>
  (
    await admin.query<{ key: string; body: string }>(
      'select key, body::text as body from ledger.idempotency where key = any($1)',
      [keys],
    )
  ).rows

const versionOf = async (id: string) =>
  (await admin.query('select version::int from ledger.accounts where id = $1', [id])).rows[0]
    .version

const point = killPoints.find(({ name }) => name === 'after commit, before the answer')!

/** Starts it anew with these patches, to be killed at a passing of the point. */
async function armed(patches: readonly SourcePatch[], hits: number): Promise<number> {
  service.patchNext(patches, hits)
  const endings = service.endings.length + 1
  await service.killHard()
  await service.answers()
  return endings
}

/** Sends all at once while it is killed, then all again: what was told, then and later. */
async function sentTwice(all: readonly Sent[], endings: number) {
  const first = await Promise.all(all.map(send))
  await service.endingsReach(endings + 1)
  await service.answers()
  const rows = await kept(all.map(({ key }) => key))
  const again = await Promise.all(all.map(send))
  return { first, again, rows: new Map(rows.map(({ key, body }) => [key, body])) }
}

describe('the command API killed between commit and answer', () => {
  it('gives the first answer to the same key', async () => {
    const [a, b] = [await opened(), await opened()]
    const endings = await armed([point.patch], 3)
    const eur = { amount: '3', currency: 'EUR' }
    const all = [
      { path: `/accounts/${a}/deposits`, body: eur },
      { path: `/accounts/${a}/withdrawals`, body: { ...eur, amount: '9999999' } },
      { path: '/transfers', body: { from: a, to: b, amount: '1' } },
    ].map((each) => ({ ...each, key: randomUUID() }))
    const first = []
    for (const each of all) first.push(await send(each))
    expect(first.map((answer) => answer?.status)).toEqual([201, 409, undefined])
    await service.endingsReach(endings + 1)
    await service.answers()
    const rows = await kept(all.map(({ key }) => key))
    const versions = [await versionOf(a), await versionOf(b)]
    for (const each of all) {
      const again = await send(each)
      expect(again?.text).toBe(rows.find(({ key }) => key === each.key)?.body)
      expect(again?.headers.get('idempotent-replayed')).toBe('true')
    }
    expect([await versionOf(a), await versionOf(b)]).toEqual(versions)
    expect(versions).toEqual([4, 3])
  })

  it('under load answers each key once and for all', async () => {
    const account = await opened()
    // So many are two batches at least, of which one is answered.
    const endings = await armed([point.patch], 2)
    const all = Array.from({ length: 100 }, () => ({
      path: `/accounts/${account}/deposits`,
      key: randomUUID(),
      body: { amount: '1', currency: 'EUR' },
    }))
    const { first, again, rows } = await sentTwice(all, endings)
    const unanswered = all.filter((_, n) => first[n] === null)
    expect(
      unanswered.some(({ key }) => rows.has(key)),
      'some were committed',
    ).toBe(true)
    for (const [n, { key }] of all.entries()) {
      const told = first[n]?.text ?? rows.get(key)
      expect(again[n]?.status).toBe(201)
      if (told !== undefined) expect(again[n]?.text).toBe(told)
    }
    expect(await versionOf(account)).toBe(2 + all.length)
  })

  it('would do a command twice if it looked for no earlier answer', async () => {
    const account = await opened()
    const forgets = [
      {
        file: 'command-api/batch.ts',
        find: '  const earlier = work.answers.get(keyText(request))\n',
        put: '  const earlier = undefined as never\n',
      },
      {
        file: 'command-api/batch.ts',
        find: '  const { caller, key, fingerprint, command } = request\n',
        put: '  const { caller, fingerprint, command } = request\n  const key = work.newId()\n',
      },
    ]
    const endings = await armed([...forgets, point.patch], 1)
    service.patchAlways(forgets, 0)
    const all = [
      {
        path: `/accounts/${account}/deposits`,
        key: randomUUID(),
        body: { amount: '1', currency: 'EUR' },
      },
    ]
    const { again } = await sentTwice(all, endings)
    expect(again[0]?.status).toBe(201)
    expect(await versionOf(account)).toBe(4)
  })
})
