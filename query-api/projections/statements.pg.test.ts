import fc from 'fast-check'
import { testDatabases } from 'local-stack/test-databases'
import { afterAll, expect, test } from 'vitest'
import type { ProjectedEvent } from '../projection.ts'
import { projected } from '../test-events.ts'
import { openProjectorPool, openReaderPool } from '../test-pools.ts'
import { storyOf } from '../test-story.ts'
import { inTransaction } from '../transaction.ts'
import { balanceAt, type Clock, openingAt } from './statements-queries.ts'
import { statements } from './statements.ts'
import { historyFrom, signedAmount, type Step } from './test-movements.ts'

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(openProjectorPool(databases))
const reader = cleanup.use(openReaderPool(databases))
afterAll(() => cleanup.disposeAsync())

const apply = (events: readonly ProjectedEvent[]) =>
  inTransaction(pool, 10_000, (transaction) => statements.apply(transaction, events))

const dayMs = 86_400_000
const start = Date.UTC(2026, 0, 1)
const momentWithin = (days: number) =>
  fc.integer({ min: -days * 24, max: days * 24 }).map((hour) => new Date(start + hour * 3_600_000))

/** Clocks that step back, and movements that take effect long before or after they are recorded. */
const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(
    ...(['deposit', 'withdrawal', 'force_debit', 'transfer_out', 'transfer_in'] as const),
    ...(['hold_capture', 'reversal', 'freeze'] as const),
  ),
  amount: fc.bigInt({ min: -1_000n, max: 1_000n }).map((amount) => amount || 1n),
  at: momentWithin(10),
  effectiveAt: fc.option(momentWithin(40), { nil: undefined }),
})

type Line = { recorded: number; effective: number; amount: bigint }

/** The lines that a history makes, by the words of its invariants. */
function modelOf(steps: readonly Step[]): Line[] {
  let recorded = start + 60_000 // When the account was opened.
  return steps.flatMap((each) => {
    recorded = Math.max(recorded, each.at.getTime())
    const effective = each.effectiveAt?.getTime() ?? each.at.getTime()
    return each.kind === 'freeze' ? [] : [{ recorded, effective, amount: signedAmount(each) }]
  })
}

const sumOf = (lines: readonly Line[]) => lines.reduce((sum, { amount }) => sum + amount, 0n)

let accounts = 0
const newAccount = () => `account-${(accounts += 1)}`

async function linesOf(account: string): Promise<Line[]> {
  const { rows } = await reader.query<Record<'recorded_at' | 'effective_at', Date> & Row>(
    `select recorded_at, effective_at, amount, balance from read.statement_lines
      where account_id = $1 order by recorded_at, version`,
    [account],
  )
  let balance = 0n
  for (const row of rows) expect(BigInt(row.balance)).toBe((balance += BigInt(row.amount)))
  return rows.map((row) => ({
    recorded: row.recorded_at.getTime(),
    effective: row.effective_at.getTime(),
    amount: BigInt(row.amount),
  }))
}
type Row = { amount: string; balance: string }

test('lines are the fold of the events, however often and in whatever pieces they come', async () => {
  const property = fc.asyncProperty(
    fc.array(step, { maxLength: 30 }),
    fc.array(fc.tuple(fc.nat({ max: 31 }), fc.nat({ max: 31 })), { maxLength: 4 }),
    async (steps, pieces) => {
      const account = newAccount()
      const events = historyFrom(account, steps)
      // A piece that begins too far ahead is refused, and comes again.
      for (const [from, count] of pieces) await apply(events.slice(from, from + count))
      await apply([...events, ...events])
      expect(await linesOf(account)).toEqual(modelOf(steps))
    },
  )
  await fc.assert(property, { numRuns: 60 })
})

test('the balance at any time, by either clock, is the sum of what counted then', async () => {
  const property = fc.asyncProperty(
    fc.array(step, { maxLength: 30 }),
    fc.array(momentWithin(50), { minLength: 1, maxLength: 6 }),
    async (steps, moments) => {
      const account = newAccount()
      await apply(historyFrom(account, steps))
      const lines = modelOf(steps)
      // At the very moment of a line, too, which counts at its time and not before it.
      const edges = lines.slice(0, 2).map(({ effective }) => new Date(effective))
      for (const clock of ['recorded', 'effective'] as const) {
        for (const moment of [...moments, ...edges]) {
          const counts = (compare: (time: number) => boolean) =>
            sumOf(lines.filter((line) => compare(line[clock])))
          expect(await balanceOf(balanceAt(account, clock, moment))).toBe(
            counts((time) => time <= moment.getTime()),
          )
          expect(await balanceOf(openingAt(account, clock, moment))).toBe(
            counts((time) => time < moment.getTime()),
          )
        }
        const ends = await Promise.all([
          balanceOf(openingAt(account, clock, '-infinity')),
          balanceOf(openingAt(account, clock, 'infinity')),
        ])
        expect(ends).toEqual([0n, sumOf(lines)])
      }
    },
  )
  await fc.assert(property, { numRuns: 40 })
})

async function balanceOf(query: ReturnType<typeof openingAt>): Promise<bigint | undefined> {
  const { rows } = await reader.query<{ balance: string }>(query)
  return rows[0] && BigInt(rows[0].balance)
}

const at = (day: number) => new Date(start + day * dayMs)

test('what was left out by hand is a line of its own, so that the lines still sum up', async () => {
  const steps: Step[] = [1, 2, 3].map((day) => ({ kind: 'deposit', amount: 5n, at: at(day) }))
  const events = historyFrom('left-out', steps)
  await apply(events.slice(0, 2))
  await inTransaction(pool, 5_000, (transaction) => statements.pass(transaction, events[2]!))
  await apply(events.slice(3))
  const { rows } = await reader.query(
    `select version, kind, amount, balance from read.statement_lines
      where account_id = 'left-out' order by recorded_at, version`,
  )
  expect(rows).toEqual([
    { version: '2', kind: 'deposit', amount: '5', balance: '5' },
    { version: '3', kind: 'left_out', amount: '5', balance: '10' },
    { version: '4', kind: 'deposit', amount: '5', balance: '15' },
  ])
})

test('an account that is forgotten leaves nothing, and can be built anew', async () => {
  const steps: Step[] = [{ kind: 'deposit', amount: 5n, at: at(1), effectiveAt: at(-9) }]
  const events = historyFrom('forgotten', steps)
  await apply(events)
  await inTransaction(pool, 5_000, (transaction) => statements.forget(transaction, 'forgotten'))
  for (const table of ['statement_lines', 'statement_shifts', 'statements_heads']) {
    const { rows } = await reader.query(`select from read.${table} where account_id = 'forgotten'`)
    expect(rows).toEqual([])
  }
  await apply(events)
  expect(await balanceOf(balanceAt('forgotten', 'effective', at(0)))).toBe(5n)
})

test.each<Clock>(['recorded', 'effective'])(
  'a movement of the future counts from its time on, by the %s clock',
  async (clock) => {
    const account = `future-${clock}`
    const now = new Date()
    const later = new Date(now.getTime() + dayMs)
    const steps: Step[] = [
      { kind: 'deposit', amount: 7n, at: now },
      { kind: 'deposit', amount: 5n, at: now, effectiveAt: later },
    ]
    await apply(historyFrom(account, steps))
    const present = clock === 'recorded' ? 12n : 7n
    expect(await balanceOf(balanceAt(account, clock, null))).toBe(present)
    expect(await balanceOf(balanceAt(account, clock, later))).toBe(12n)
  },
)

test('of a story with every type of event, each line says what moved, why and with whom', async () => {
  const events = storyOf(32).map(projected)
  await apply(events)
  const kinds: Readonly<Record<string, string>> = {
    'FundsDeposited.v1': 'deposit',
    'FundsWithdrawn.v1': 'withdrawal',
    'FundsForceDebited.v1': 'force_debit',
    'FundsTransferredOut.v1': 'transfer_out',
    'FundsTransferredIn.v1': 'transfer_in',
    'HoldCaptured.v1': 'hold_capture',
    'TransactionReversed.v1': 'reversal',
  }
  const fold = events.flatMap(({ account, version, event: { type, payload } }) => {
    const kind = kinds[type]
    if (kind === undefined || !('transactionId' in payload)) return []
    const isCredit =
      kind === 'deposit' ||
      kind === 'transfer_in' ||
      ('direction' in payload && payload.direction === 'credit')
    const related = ['transferId', 'holdId', 'reversedTransactionId'].flatMap(
      (name) => (payload as Record<string, unknown>)[name] ?? [],
    )
    return {
      account_id: account,
      version: String(version),
      kind,
      amount: `${isCredit ? '' : '-'}${payload.amount}`,
      balance: payload.after.ledgerBalance,
      effective_at: new Date(payload.effectiveAt),
      transaction_id: payload.transactionId,
      related_id: related[0] ?? null,
      counterparty_id: 'counterpartyId' in payload ? payload.counterpartyId : null,
      reference: payload.reference,
    }
  })
  const { rows } = await reader.query<(typeof fold)[number]>(
    `select account_id, version, kind, amount, balance, effective_at, transaction_id, related_id,
        counterparty_id, reference
      from read.statement_lines where account_id like 'story-%'`,
  )
  const byVersion = (lines: typeof fold) =>
    new Map(lines.map((line) => [`${line.account_id} ${line.version}`, line]))
  expect(byVersion(rows)).toEqual(byVersion(fold))
  expect(rows).toHaveLength(fold.length)
})
