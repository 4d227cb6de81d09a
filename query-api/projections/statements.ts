import { strict as assert } from 'node:assert'
import { withOwnHeads } from '../own-heads.ts'
import type { ProjectedEvent } from '../projection.ts'
import type { Transaction } from '../transaction.ts'

// The projection `statements`: one line per movement, with the balance after it. Both clocks are kept:
// when a movement was recorded, and when it takes effect. Invariants:
// 1. Per account, the lines' amounts sum to the balance, in whichever order they are taken.
// 2. Per account, recorded times rise with the versions: where a clock stepped back, a line has the
//    time of the one before it.
// 3. Lines whose two times differ are counted in `shifted_total`, and by effective day in
//    read.statement_shifts.

/** What the row of heads remembers of its account. */
type State = {
  currency: string
  exponent: string
  balance: string
  shifted_total: string
  as_of: string
}

type After = State & { lines: readonly Line[] }

type LineKind =
  | 'deposit'
  | 'withdrawal'
  | 'force_debit'
  | 'transfer_out'
  | 'transfer_in'
  | 'hold_capture'
  | 'reversal'
  | 'left_out'

type Line = {
  account: string
  /** Both times RFC 3339 in UTC with six digits, so that their texts sort by time. */
  recordedAt: string
  effectiveAt: string
  version: number
  kind: LineKind
  amount: bigint
  balance: bigint
  shiftedTotal: bigint
  transactionId: string | null
  relatedId: string | null
  counterpartyId: string | null
  reference: string | null
}

export const statements = withOwnHeads<State, After>({
  name: 'statements',
  carried: {
    columns: {
      currency: 'text',
      exponent: 'smallint',
      balance: 'bigint',
      shifted_total: 'bigint',
      as_of: 'text',
    },
    after: stateAfter,
  },
  fold(transaction, changes) {
    const lines = changes.flatMap(({ after }) => after.lines)
    insertLines(transaction, lines)
    addShifts(transaction, lines)
  },
  async forget(transaction, account) {
    await transaction.query('delete from read.statement_lines where account_id = $1', [account])
    await transaction.query('delete from read.statement_shifts where account_id = $1', [account])
  },
})

function stateAfter(before: State | undefined, events: readonly ProjectedEvent[]): After {
  const lines: Line[] = []
  const { currency, exponent } = before ?? openingOf(events[0]!)
  let asOf = before?.as_of ?? ''
  let balance = BigInt(before?.balance ?? 0)
  let shiftedTotal = BigInt(before?.shifted_total ?? 0)
  for (const { account, version, event } of events) {
    const at = sixDigits(event.at)
    if (at > asOf) asOf = at
    const recorded = { account, recordedAt: asOf, effectiveAt: asOf, version }
    const movement = movementOf(event)
    const amount = movement?.amount ?? 0n
    const after = BigInt(event.payload.after.ledgerBalance)
    const leftOut = after - amount - balance
    if (leftOut !== 0n) {
      const line = { ...unknown, ...recorded, version: version - 1, amount: leftOut }
      lines.push({ ...line, balance: after - amount, shiftedTotal })
    }
    balance = after
    if (movement === undefined) continue
    const line = { ...recorded, ...movement }
    if (line.effectiveAt !== line.recordedAt) shiftedTotal += amount
    lines.push({ ...line, balance, shiftedTotal })
  }
  const state = { balance: String(balance), shifted_total: String(shiftedTotal), as_of: asOf }
  return { currency, exponent, ...state, lines }
}

/** What a person let pass: the next event's state shows by how much the balance moved meanwhile. */
const unknown = {
  kind: 'left_out',
  transactionId: null,
  relatedId: null,
  counterpartyId: null,
  reference: null,
} as const

function openingOf({ event }: ProjectedEvent): Pick<State, 'currency' | 'exponent'> {
  assert(event.type === 'AccountOpened.v1', 'the first event of an account opens it')
  return { currency: event.payload.currency, exponent: String(event.payload.exponent) }
}

type Movement = Omit<Line, 'account' | 'recordedAt' | 'version' | 'balance' | 'shiftedTotal'>

/** What an event moves; undefined when it moves nothing. */
function movementOf({ type, payload }: ProjectedEvent['event']): Movement | undefined {
  switch (type) {
    case 'FundsDeposited.v1':
      return moved('deposit', 1n, payload)
    case 'FundsWithdrawn.v1':
      return moved('withdrawal', -1n, payload)
    case 'FundsForceDebited.v1':
      return moved('force_debit', -1n, payload)
    case 'FundsTransferredOut.v1':
      return moved('transfer_out', -1n, { ...payload, relatedId: payload.transferId })
    case 'FundsTransferredIn.v1':
      return moved('transfer_in', 1n, { ...payload, relatedId: payload.transferId })
    case 'HoldCaptured.v1':
      return moved('hold_capture', -1n, { ...payload, relatedId: payload.holdId })
    case 'TransactionReversed.v1':
      return moved('reversal', payload.direction === 'credit' ? 1n : -1n, {
        ...payload,
        relatedId: payload.reversedTransactionId,
      })
    default:
      return undefined
  }
}

type MovementPayload = {
  amount: string
  effectiveAt: string
  transactionId: string
  reference: string | null
  counterpartyId?: string | null
  relatedId?: string
}

function moved(kind: LineKind, sign: bigint, payload: MovementPayload): Movement {
  const { amount, effectiveAt, transactionId, reference, counterpartyId, relatedId } = payload
  return {
    kind,
    amount: sign * BigInt(amount),
    effectiveAt: sixDigits(effectiveAt),
    transactionId,
    relatedId: relatedId ?? null,
    counterpartyId: counterpartyId ?? null,
    reference,
  }
}

/** As the wire writes times. What is finer than a microsecond the database would not keep. */
function sixDigits(time: string): string {
  const parts = /^(.{16})(?::(\d\d))?(?:\.(\d+))?Z$/.exec(time) ?? []
  const [, minute = '', second = '00', fraction = ''] = parts
  return `${minute}:${second}.${fraction.slice(0, 6).padEnd(6, '0')}Z`
}

function insertLines(transaction: Transaction, lines: readonly Line[]): void {
  if (lines.length === 0) return
  transaction.send({
    name: 'statements-insert-lines',
    text: `insert into read.statement_lines (account_id, recorded_at, effective_at, version, kind,
        amount, balance, shifted_total, transaction_id, related_id, counterparty_id, reference)
      select * from unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::bigint[],
        $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::uuid[], $10::uuid[],
        $11::text[], $12::text[])`,
    values: [
      lines.map((line) => line.account),
      lines.map((line) => line.recordedAt),
      lines.map((line) => line.effectiveAt),
      lines.map((line) => line.version),
      lines.map((line) => line.kind),
      lines.map((line) => line.amount),
      lines.map((line) => line.balance),
      lines.map((line) => line.shiftedTotal),
      lines.map((line) => line.transactionId),
      lines.map((line) => line.relatedId),
      lines.map((line) => line.counterpartyId),
      lines.map((line) => line.reference),
    ],
  })
}

function addShifts(transaction: Transaction, lines: readonly Line[]): void {
  const shifted = lines.filter(({ effectiveAt, recordedAt }) => effectiveAt !== recordedAt)
  if (shifted.length === 0) return
  transaction.send({
    name: 'statements-add-shifts',
    text: `insert into read.statement_shifts as s (account_id, day, total)
      select account_id, day, sum(amount)
        from unnest($1::text[], $2::date[], $3::bigint[]) as n(account_id, day, amount)
        group by account_id, day
      on conflict (account_id, day) do update set total = s.total + excluded.total`,
    values: [
      shifted.map(({ account }) => account),
      shifted.map(({ effectiveAt }) => effectiveAt.slice(0, 10)),
      shifted.map(({ amount }) => amount),
    ],
  })
}
