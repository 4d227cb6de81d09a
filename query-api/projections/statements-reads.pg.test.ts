import fc from 'fast-check'
import { encodeToken } from 'command-api/token'
import { testDatabases } from 'local-stack/test-databases'
import { databaseOver, openPool } from 'migrations/database'
import type { ReadDatabase } from 'migrations/read'
import { openToAll } from 'service/access'
import { serveHttp } from 'service/http'
import { openLog } from 'service/log'
import { openMetrics } from 'service/metrics'
import { afterAll, expect, test } from 'vitest'
import { openFreshnesses } from '../freshness.ts'
import type { ProjectedEvent } from '../projection.ts'
import { inTransaction } from '../transaction.ts'
import { statementRoutes } from './statements-reads.ts'
import { statements } from './statements.ts'
import { historyFrom, type Step } from './test-movements.ts'

const cleanup = new AsyncDisposableStack()
afterAll(() => cleanup.disposeAsync())
const databases = cleanup.use(await testDatabases())
const connection = { applicationName: 'test', maxConnections: 4, onError: () => {} }
const pool = cleanup.use(
  openPool({ ...connection, url: databases.read('sluice_projector'), pipeline: true }),
)
const reader = cleanup.use(openPool({ ...connection, url: databases.read('sluice_query') }))
const http = cleanup.use(
  await serveHttp({
    host: '127.0.0.1',
    port: 0,
    access: openToAll,
    metrics: openMetrics('query-api'),
    log: openLog('query-api', 'fatal'),
    readiness: async () => [],
    routes: statementRoutes({
      reader,
      database: databaseOver<ReadDatabase>(reader),
      freshnessOf: openFreshnesses(reader, { signal: new AbortController().signal }).of,
      cursorSecret: 'a secret of at least 32 characters',
    }),
  }),
)

const apply = (events: readonly ProjectedEvent[]) =>
  inTransaction(pool, 10_000, (transaction) => statements.apply(transaction, events))

type Line = { version: number; amount: string; direction: string; balance: string }
type Body = Record<string, string> & { items: Line[]; lines: Line[]; next: string | null }

async function get(path: string, headers: Record<string, string> = {}) {
  const response = await fetch(`${http.url}${path}`, { headers })
  const { status } = response
  return { status, headers: response.headers, body: (await response.json()) as Body }
}

const dayMs = 86_400_000
const day = (number: number) => new Date(Date.UTC(2026, 1, 1) + number * dayMs)
const deposits = (count: number): Step[] =>
  Array.from({ length: count }, (_, index) => ({ kind: 'deposit', amount: 10n, at: day(index) }))

test('a line says which way the money went, both times, and what it belongs to', async () => {
  const steps: Step[] = [
    { kind: 'deposit', amount: 100n, at: day(0), reference: 'salary' },
    { kind: 'transfer_out', amount: 30n, at: day(2), effectiveAt: day(1) },
  ]
  await apply(historyFrom('one', steps))
  const { status, body } = await get('/accounts/one/transactions')
  expect(status).toBe(200)
  expect(body).toMatchObject({ next: null, version: 3, asOf: day(2).toISOString() })
  expect(body.items).toEqual([
    {
      version: 3,
      transactionId: expect.stringMatching(/^[\da-f-]{36}$/),
      kind: 'transfer_out',
      direction: 'debit',
      amount: '30',
      balance: '70',
      recordedAt: day(2).toISOString(),
      effectiveAt: day(1).toISOString(),
      reference: null,
      counterpartyId: '-other',
      transferId: expect.stringMatching(/^[\da-f-]{36}$/),
    },
    expect.objectContaining({ direction: 'credit', amount: '100', reference: 'salary' }),
  ])
})

test('a cursor walks over what was there once, whatever is written meanwhile', async () => {
  const events = historyFrom('walk', deposits(25))
  await apply(events.slice(0, 21))
  const seen: number[] = []
  let written = 21
  let cursor: string | null = ''
  while (cursor !== null) {
    const query: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const { body } = await get(`/accounts/walk/transactions?limit=7${query}`)
    seen.push(...body.items.map(({ version }) => version))
    cursor = body.next
    await apply(events.slice(written, (written += 1)))
  }
  expect(seen).toEqual(Array.from({ length: 20 }, (_, index) => 21 - index))
})

test('a statement is what it was when it was begun, however many pages it takes', async () => {
  const backdated: Step = { kind: 'deposit', amount: 5n, at: day(30), effectiveAt: day(7) }
  const events = historyFrom('pinned', [...deposits(9), backdated])
  await apply(events.slice(0, 10))
  const first = await get('/accounts/pinned/statement?clock=effective&limit=4')
  expect(first.body).toMatchObject({ opening: '0', closing: '40' })
  await apply(events.slice(10))
  const cursor = encodeURIComponent(first.body.next!)
  const second = await get(`/accounts/pinned/statement?clock=effective&limit=9&cursor=${cursor}`)
  expect(second.body).toMatchObject({ opening: '40', closing: '90', next: null })
  const again = await get('/accounts/pinned/statement?clock=effective')
  expect(again.body).toMatchObject({ opening: '0', closing: '95' })
  expect(again.body.lines.map(({ version }) => version).slice(7)).toEqual([9, 11, 10])
})

const hours = (days: number) =>
  fc
    .integer({ min: 0, max: days * 24 })
    .map((hour) => new Date(day(0).getTime() + hour * 3_600_000))
const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('deposit', 'withdrawal', 'reversal'),
  amount: fc.bigInt({ min: 1n, max: 1_000n }),
  at: hours(10),
  effectiveAt: fc.option(hours(12), { nil: undefined }),
})
let accounts = 0

test('every statement foots: opening and lines make the closing, which is the balance then', async () => {
  const property = fc.asyncProperty(
    fc.record({
      steps: fc.array(step, { maxLength: 20 }),
      clock: fc.constantFrom('recorded', 'effective'),
      ends: fc.tuple(hours(12), hours(12)),
      limit: fc.integer({ min: 1, max: 8 }),
    }),
    async ({ steps, clock, ends, limit }) => {
      const account = `foots-${(accounts += 1)}`
      await apply(historyFrom(account, steps))
      const [from, to] = ends.toSorted((one, other) => Number(one) - Number(other)) as [Date, Date]
      const asked = `clock=${clock}&from=${from.toISOString()}&to=${to.toISOString()}&limit=${limit}`
      let cursor = ''
      let expected = await balanceBefore(account, clock, from)
      for (;;) {
        const { body } = await get(`/accounts/${account}/statement?${asked}${cursor}`)
        expect(body.opening).toBe(String(expected))
        for (const line of body.lines) {
          expected += BigInt(line.amount) * (line.direction === 'debit' ? -1n : 1n)
          expect(line.balance).toBe(String(expected))
        }
        expect(body.closing).toBe(String(expected))
        if (body.next === null) break
        expect(body.lines).toHaveLength(limit)
        cursor = `&cursor=${encodeURIComponent(body.next)}`
      }
      expect(expected).toBe(await balanceBefore(account, clock, to))
    },
  )
  await fc.assert(property, { numRuns: 40 })
})

async function balanceBefore(account: string, clock: string, moment: Date): Promise<bigint> {
  const at = new Date(moment.getTime() - 1).toISOString()
  const { body } = await get(`/accounts/${account}/balance?clock=${clock}&at=${at}`)
  return BigInt(body.balance!)
}

test('CSV has the same lines, with signs, and nothing in it is a formula', async () => {
  const steps: Step[] = [
    { kind: 'deposit', amount: 100n, at: day(0), reference: '=HYPERLINK("http://evil","x")' },
    { kind: 'transfer_out', amount: 30n, at: day(1) },
  ]
  await apply(historyFrom('csv', steps))
  const pages: string[] = []
  for (let path: string | undefined = '/accounts/csv/statement?limit=1'; path !== undefined;) {
    const response: Response = await fetch(`${http.url}${path}`, {
      headers: { Accept: 'text/csv' },
    })
    expect(response.headers.get('content-type')).toContain('text/csv')
    expect(response.headers.get('content-disposition')).toContain('statement-csv.csv')
    pages.push(await response.text())
    path = /<([^>]+)>; rel="next"/.exec(response.headers.get('link') ?? '')?.[1]
  }
  expect(pages).toHaveLength(2)
  const rows = pages.flatMap((page) => page.trimEnd().split('\r\n').slice(1))
  expect(rows.map((row) => row.split(',').slice(0, 5).join())).toEqual([
    'opening,,,,0',
    `deposit,${day(0).toISOString()},${day(0).toISOString()},100,100`,
    `transfer_out,${day(1).toISOString()},${day(1).toISOString()},-30,70`,
    'closing,,,,70',
  ])
  expect(rows[1]).toContain(`,"'=HYPERLINK(""http://evil"",""x"")",2`)
  expect(rows[2]).toContain(",'-other,")
})

/** The cells of a table as RFC 4180 has it. */
function cellsOf(text: string): string[][] {
  const rows: string[][] = [[]]
  for (const [, quoted, plain = '', end] of text.matchAll(
    /(?:"((?:[^"]|"")*)"|([^,\r]*))(,|\r\n)/g,
  )) {
    rows.at(-1)!.push(quoted?.replaceAll('""', '"') ?? plain)
    if (end !== ',') rows.push([])
  }
  return rows.slice(0, -1)
}

async function csvPages(path: string): Promise<string[][]> {
  const rows: string[][] = []
  for (let next: string | undefined = path; next !== undefined;) {
    const answer: Response = await fetch(`${http.url}${next}`, { headers: { Accept: 'text/csv' } })
    rows.push(...cellsOf(await answer.text()).slice(1))
    next = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1]
  }
  return rows
}

async function jsonPages(path: string): Promise<Body[]> {
  const pages: Body[] = []
  for (let cursor: string | null = ''; cursor !== null; cursor = pages.at(-1)!.next) {
    const behind: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`
    pages.push((await get(`${path}${behind}`)).body)
  }
  return pages
}

test('CSV says what JSON says, line by line, whatever happened and was written about it', async () => {
  const property = fc.asyncProperty(
    fc.array(fc.record({ step, reference: fc.string({ unit: 'grapheme', maxLength: 12 }) }), {
      maxLength: 12,
    }),
    fc.constantFrom('recorded', 'effective'),
    fc.integer({ min: 1, max: 5 }),
    async (steps, clock, limit) => {
      const account = `table-${(accounts += 1)}`
      const clean = (text: string) => text.replaceAll('\0', '')
      const own = steps.map((each) => ({ ...each.step, reference: clean(each.reference) }))
      await apply(historyFrom(account, own))
      const path = `/accounts/${account}/statement?clock=${clock}&limit=${limit}`
      const pages = await jsonPages(path)
      const lines = pages.flatMap((page) => page.lines as (Line & Record<string, string>)[])
      const [opening, ...rows] = await csvPages(path)
      expect(opening?.slice(0, 5)).toEqual(['opening', '', '', '', pages[0]!.opening])
      expect(rows.pop()?.slice(0, 5)).toEqual(['closing', '', '', '', pages.at(-1)!.closing])
      expect(rows).toEqual(
        lines.map((line) => [
          line.kind,
          line.recordedAt,
          line.effectiveAt,
          line.direction === 'debit' ? `-${line.amount}` : line.amount,
          line.balance,
          'EUR',
          '2',
          line.transactionId,
          line.counterpartyId ?? '',
          expect.toSatisfy((cell) => cell === line.reference || cell === `'${line.reference}`),
          String(line.version),
        ]),
      )
    },
  )
  await fc.assert(property, { numRuns: 30 })
})

test.each(['recorded', 'effective'])(
  'while movements are recorded, backdated ones too, a statement by %s time foots over its pages',
  async (clock) => {
    const account = `written-${clock}`
    const steps = Array.from({ length: 120 }, (_, index): Step => {
      const at = day(index / 10)
      const effectiveAt = index % 3 === 0 ? day(index / 10 - 3) : undefined
      return {
        kind: index % 4 === 0 ? 'withdrawal' : 'deposit',
        amount: BigInt(index + 1),
        at,
        effectiveAt,
      }
    })
    const events = historyFrom(account, steps)
    await apply(events.slice(0, 41))
    const walking = new AbortController()
    const writing = (async () => {
      for (const event of events.slice(41)) {
        await apply([event])
        if (walking.signal.aborted) return
      }
    })()
    const pages = await jsonPages(`/accounts/${account}/statement?clock=${clock}&limit=3`)
    walking.abort()
    await writing
    const signed = ({ amount, direction }: Line) =>
      BigInt(amount) * (direction === 'debit' ? -1n : 1n)
    let balance = 0n
    for (const { opening, closing, lines } of pages) {
      expect(opening).toBe(String(balance))
      for (const line of lines) expect(line.balance).toBe(String((balance += signed(line))))
      expect(closing).toBe(String(balance))
    }
    // Each line that was there when it began, and none that came later.
    const versions = pages.flatMap(({ lines }) => lines.map(({ version }) => version))
    const begun = Number(pages[0]!.version)
    expect(begun).toBeLessThan(121)
    expect(versions.toSorted((one, other) => one - other)).toEqual(
      Array.from({ length: begun - 1 }, (_, index) => index + 2),
    )
    expect(Number(pages.at(-1)!.version)).toBeGreaterThan(begun)
  },
)

test.each([
  '/accounts/one/transactions?limit=101',
  '/accounts/one/transactions?from=2026-01-01T00:00:00Z',
  '/accounts/one/statement?limit=501',
  '/accounts/one/statement?from=yesterday',
  '/accounts/one/statement?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z',
  '/accounts/one/balance?clock=wall',
  '/accounts/one/balance?at=2026-02-30T00:00:00Z',
])('%s is refused', async (path) => {
  expect(await get(path)).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
})

test.each(['transactions', 'statement', 'balance'])(
  '%s of an unknown account is not found, and a token is waited for here',
  async (name) => {
    expect(await get(`/accounts/nobody/${name}`)).toMatchObject({
      status: 404,
      body: { code: 'account_not_found' },
    })
    await apply(historyFrom(`late-${name}`, []))
    const stale = await get(`/accounts/late-${name}/${name}`, {
      'Consistency-Token': encodeToken(new Map([[`late-${name}`, 2]])),
      Prefer: 'wait=0',
    })
    expect(stale.headers.get('consistency-lagging')).toBe(`late-${name}=1/2`)
  },
)

test('a cursor of another account, clock or list is refused', async () => {
  await apply(historyFrom('cursor', deposits(3)))
  const { body } = await get('/accounts/cursor/statement?limit=1')
  const cursor = encodeURIComponent(body.next!)
  for (const path of [
    'cursor/transactions?',
    'cursor/statement?clock=effective&',
    'csv/statement?',
  ]) {
    const answer = await get(`/accounts/${path}cursor=${cursor}`)
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_cursor' } })
  }
})

test('times at the edges of what is allowed are answered', async () => {
  for (const time of ['0000-01-01T00:00:00Z', '9999-12-31T23:59:59.999999Z']) {
    for (const clock of ['recorded', 'effective']) {
      const asked = `/accounts/cursor/balance?clock=${clock}&at=${time}`
      expect((await get(asked)).status).toBe(200)
      const from = await get(`/accounts/cursor/statement?clock=${clock}&from=${time}`)
      expect(from.status).toBe(200)
    }
  }
})
