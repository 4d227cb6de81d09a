import { randomUUID } from 'node:crypto'
import { testDatabases, type TestDatabases } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack'
import { openPool, type Pool } from 'migrations/database'
import { Client } from 'pg'
import { openLog } from 'service/log'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { CommandRequest } from './batch.ts'
import type { Command } from './commands.ts'
import { Executor } from './executor.ts'
import { lockNumber } from './ledger.ts'
import { openWire } from './test-wire.ts'
import { writeSessionSettings } from './write-database.ts'

let databases: TestDatabases
let pool: Pool
let admin: Client
let executor: Executor
const log = openLog('test', 'fatal')

beforeAll(async () => {
  databases = await testDatabases()
  pool = open(writeSessionSettings)
  admin = new Client({ connectionString: databases.write() })
  await admin.connect()
  executor = new Executor({ pool, log, newId: randomUUID })
})

afterAll(async () => {
  await pool.end()
  await admin.end()
  await databases[Symbol.asyncDispose]()
})

const open = (settings: Record<string, string>) =>
  openPool({
    url: databases.write('sluice_command'),
    applicationName: 'executor-test',
    maxConnections: 4,
    settings,
    pipeline: true,
    onError: () => {},
  })

const at = '2026-01-02T03:04:05.678Z'

function request(command: Partial<Command> & { kind: string }, key = randomUUID() as string) {
  const common = { transactionId: randomUUID(), at, currency: 'EUR' }
  const movement = { reference: null, effectiveAt: at }
  const opening = { owner: 'Ada', type: 'current', overdraftLimit: 0n, openingDeposit: null }
  const rest = command.kind === 'OpenAccount' ? opening : movement
  return {
    caller: 'tester',
    key,
    fingerprint: Buffer.from(key),
    commandId: randomUUID(),
    command: { ...common, ...rest, ...command } as Command,
    ifMatch: undefined,
    trace: {
      traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
      traceId: 'a',
      correlationId: 'c',
    },
    dryRun: false,
  } satisfies CommandRequest
}

const opening = (accountId: string, openingDeposit: bigint | null = null) =>
  request({ kind: 'OpenAccount', accountId, openingDeposit } as never)
const deposit = (accountId: string, amount: bigint, key?: string) =>
  request({ kind: 'Deposit', accountId, amount } as never, key)
const withdrawal = (accountId: string, amount: bigint) =>
  request({ kind: 'Withdraw', accountId, amount } as never)

const count = async (table: string, where: string) =>
  Number((await admin.query(`select count(*) from ${table} where ${where}`)).rows[0].count)

describe('executing commands', () => {
  it('writes account, events, entries, queue rows and answer together', async () => {
    const answer = await executor.submit(opening('whole', 500n))
    expect(answer).toMatchObject({ status: 201, etag: '"2"', replayed: false })
    const { rows } = await admin.query(
      `select e.version, e.type, e.outbox_position = o.position as at_position,
         e.payload::text = o.payload::text as same_payload, o.aggregateversion::int
       from ledger.account_events e join outbox.events o using (id)
       where account_id = 'whole' order by e.version`,
    )
    expect(rows).toEqual([
      {
        version: '1',
        type: 'AccountOpened.v1',
        at_position: true,
        same_payload: true,
        aggregateversion: 1,
      },
      {
        version: '2',
        type: 'FundsDeposited.v1',
        at_position: true,
        same_payload: true,
        aggregateversion: 2,
      },
    ])
    const account = await admin.query(`select * from ledger.accounts where id = 'whole'`)
    expect(account.rows[0]).toMatchObject({ ledger_balance: '500', version: '2', status: 'open' })
    const entries = await admin.query(
      `select account_id, amount from ledger.entries order by amount desc limit 2`,
    )
    expect(entries.rows).toEqual([
      { account_id: 'whole', amount: '500' },
      { account_id: 'sluice-cash-EUR', amount: '-500' },
    ])
  })

  it('decides a batch in order of arrival, each against what those before it left', async () => {
    const oneLane = new Executor({ pool, log, newId: randomUUID, lanes: 1 })
    await oneLane.submit(opening('order'))
    const answers = await Promise.all([
      oneLane.submit(deposit('order', 10n)),
      oneLane.submit(withdrawal('order', 10n)),
      oneLane.submit(withdrawal('order', 1n)),
      oneLane.submit(deposit('order', 3n)),
    ])
    expect(answers.map((answer) => [answer.status, answer.etag])).toEqual([
      [201, '"2"'],
      [201, '"3"'],
      [409, '"3"'],
      [201, '"4"'],
    ])
  })

  it('draws positions in version order for each account, whatever the batch looks like', async () => {
    const ids = Array.from({ length: 7 }, (_, n) => `positions-${6 - n}`)
    await Promise.all(ids.map((id) => executor.submit(opening(id))))
    const moves = Array.from({ length: 300 }, (_, n) => deposit(ids[(n * 5) % 7] ?? '', 1n))
    await Promise.all(moves.map((move) => executor.submit(move)))
    const { rows } = await admin.query(
      `select count(*) from (
         select position, lag(position) over (partition by aggregateid order by aggregateversion) as before
         from outbox.events where aggregateid like 'positions-%') o
       where position < before`,
    )
    expect(rows).toEqual([{ count: '0' }])
    expect(await count('outbox.events', `aggregateid like 'positions-%'`)).toBe(307)
  })

  it('writes nothing but its answer for a refusal', async () => {
    await executor.submit(opening('refused'))
    const refusal = withdrawal('refused', 1n)
    expect((await executor.submit(refusal)).status).toBe(409)
    expect(await count('ledger.account_events', `account_id = 'refused'`)).toBe(1)
    expect(await count('ledger.idempotency', `key = '${refusal.key}'`)).toBe(1)
  })

  it('gives a key one effect and the same answer, in one batch and across batches', async () => {
    await executor.submit(opening('key'))
    const same = deposit('key', 5n, 'same-key')
    const answers = await Promise.all(Array.from({ length: 20 }, () => executor.submit(same)))
    answers.push(await executor.submit({ ...same, commandId: randomUUID() }))
    expect(new Set(answers.map((answer) => answer.body)).size).toBe(1)
    expect(answers.filter((answer) => !answer.replayed)).toHaveLength(1)
    expect(await count('ledger.account_events', `account_id = 'key'`)).toBe(2)
    const other = await executor.submit({ ...same, fingerprint: Buffer.from('other') })
    expect(other.status).toBe(422)
  })

  it('keeps one caller from another under the same key', async () => {
    await executor.submit(opening('callers'))
    const mine = deposit('callers', 5n, 'shared-key')
    const answers = [mine, { ...mine, caller: 'somebody-else' }].map((each) =>
      executor.submit(each),
    )
    const etags = (await Promise.all(answers)).map((answer) => answer.etag)
    expect(etags.toSorted()).toEqual(['"2"', '"3"'])
  })

  it('waits for a key that another transaction holds, then goes on; in vain: 409', async () => {
    await executor.submit(opening('held'))
    const waiting = deposit('held', 5n)
    await admin.query(`begin; select pg_advisory_xact_lock(${lockNumber(waiting)})`)
    const answer = executor.submit(waiting)
    const impatient = new Executor({ pool, log, newId: randomUUID, patienceMs: 60 })
    const refused = await impatient.submit(waiting)
    expect(refused).toMatchObject({ status: 409, retryAfterSeconds: 1 })
    expect(refused.body).toContain('idempotency_in_progress')
    await admin.query('commit')
    expect((await answer).status).toBe(201)
  })

  it('opens an account once when two processes open it at the same moment', async () => {
    const executors = Array.from(
      { length: 4 },
      () => new Executor({ pool, log, newId: randomUUID }),
    )
    for (let round = 0; round < 10; round += 1) {
      const answers = await Promise.all(
        executors.map((each) => each.submit(opening(`race-${round}`))),
      )
      expect(answers.map((answer) => answer.status).toSorted()).toEqual([201, 409, 409, 409])
    }
  })
})

describe('when something fails', () => {
  it('a fault in one decision leaves the rest of its batch alone', async () => {
    await executor.submit(opening('fault'))
    const results = await Promise.allSettled([
      executor.submit(deposit('fault', 1n)),
      executor.submit(request({ kind: 'Nonsense', accountId: 'fault' } as never)),
      executor.submit(deposit('fault', 2n)),
    ])
    expect(results.map((result) => result.status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(await count('ledger.account_events', `account_id = 'fault'`)).toBe(3)
  })

  it('a write that PostgreSQL refuses fails its culprit alone', async () => {
    await executor.submit(opening('culprit'))
    const bad = deposit('culprit', 1n)
    Object.assign(bad.command, { effectiveAt: 'no time at all' })
    const all = [deposit('culprit', 1n), deposit('culprit', 1n), bad, deposit('culprit', 1n)]
    const results = await Promise.allSettled(all.map((each) => executor.submit(each)))
    expect(results.map((result) => result.status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
    ])
    expect(await count('ledger.account_events', `account_id = 'culprit'`)).toBe(4)
    expect(await count('ledger.idempotency', `key = '${bad.key}'`)).toBe(0)
  })

  it('connections cut again and again leave each command done once and answered right', async () => {
    await executor.submit(opening('cut'))
    let cuts = 0
    const cutting = new AbortController()
    const cut = waitUntil(
      async () => {
        const { rowCount } = await admin.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where application_name = 'executor-test' and state <> 'idle'`,
        )
        cuts += rowCount ?? 0
        return cuts >= 20 || cutting.signal.aborted
      },
      { what: 'the last cut', intervalMs: 5 },
    )
    const moves = Array.from({ length: 400 }, () => deposit('cut', 1n))
    const rounds = [0, 100, 200, 300].map((from) => moves.slice(from, from + 100))
    const answers = []
    for (const round of rounds)
      answers.push(...(await Promise.all(round.map((m) => executor.submit(m)))))
    cutting.abort()
    await cut
    const unknown = answers.filter((answer) => answer.status === 503)
    const again = await Promise.all(moves.map((move) => executor.submit(move)))
    expect(again.map((answer) => answer.status)).toEqual(moves.map(() => 201))
    const known = answers.flatMap((answer, n) =>
      answer.status === 503 ? [] : [[answer, again[n]]],
    )
    for (const [first, second] of known) expect(second?.body).toBe(first?.body)
    expect(cuts).toBeGreaterThan(0)
    expect(unknown.length).toBeLessThan(moves.length)
    const { rows } = await admin.query(`select * from ledger.accounts where id = 'cut'`)
    expect(rows[0]).toMatchObject({ ledger_balance: '400', version: '401' })
  })

  it('a connection that carries nothing any more costs its lane a while, and nobody an answer', async () => {
    await using wire = await openWire(databases.write('sluice_command'))
    await using through = openPool({
      url: wire.url,
      applicationName: 'executor-test',
      maxConnections: 2,
      settings: writeSessionSettings,
      pipeline: true,
      queryTimeoutMs: 600,
      onError: () => {},
    })
    const patient = new Executor({ pool: through, log, newId: randomUUID, patienceMs: 300 })
    // By somebody with more patience, on a machine that may be slow; and a connection to go silent.
    await executor.submit(opening('half-open'))
    await through.query('select')
    wire.goSilent()
    const lost = deposit('half-open', 5n)
    const answering = patient.submit(lost)
    await waitUntil(() => patient.oldestMs > 50, { what: 'a command that waits' })
    expect(await answering).toMatchObject({ status: 503, retryAfterSeconds: 1 })
    const again = await waitUntil(
      async () => {
        const answer = await patient.submit(lost)
        return answer.status === 201 && answer
      },
      { what: 'the lane to be free', deadlineMs: 10_000 },
    )
    expect(JSON.parse(again.body).account.ledgerBalance).toBe('5')
    expect(patient.oldestMs).toBe(0)
  })

  it('a full queue is said at once, with when to come again', async () => {
    const full = new Executor({ pool, log, newId: randomUUID, queueLimit: 0 })
    const answer = await full.submit(opening('full'))
    expect(answer).toMatchObject({ status: 503, retryAfterSeconds: 1 })
    expect(answer.body).toContain('overloaded')
  })

  it('a session that answers before its commit is durable is refused', async () => {
    await using loose = open({ synchronous_commit: 'off' })
    const careless = new Executor({ pool: loose, log, newId: randomUUID })
    await expect(careless.submit(opening('loose'))).rejects.toThrow('synchronous_commit')
    expect(await count('ledger.accounts', `id = 'loose'`)).toBe(0)
  })
})
