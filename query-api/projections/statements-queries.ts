import type { QueryConfig } from 'pg'
import { statements } from './statements.ts'

// What is asked of the projection `statements`, as named statements: planning one would cost more than
// answering it. None costs more with an account's age: each goes down an index to where it begins.

/** Which time counts: when a movement was recorded, or when it takes effect. */
export type Clock = 'recorded' | 'effective'

/** A time, or beyond all of them. */
export type Moment = Date | string

export type HeadRow = {
  version: string
  currency: string
  exponent: number
  as_of: string
  /** Why the account is in quarantine, when it is. */
  quarantined: string | null
}

export type LineRow = {
  version: string
  recorded_at: string
  effective_at: string
  kind: string
  amount: string
  balance: string
  transaction_id: string | null
  related_id: string | null
  counterparty_id: string | null
  reference: string | null
}

const utc = (time: string) => `to_char(${time} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`

const lineColumns = `l.version, ${utc('l.recorded_at')} as recorded_at,
  ${utc('l.effective_at')} as effective_at, l.kind, l.amount, l.balance, l.transaction_id,
  l.related_id, l.counterparty_id, l.reference`

const fromHeads = `from read.statements_heads h
  left join read.quarantine q
    on q.projection = '${statements.name}' and q.account_id = h.account_id`

/** Where a list goes on: the times and version of the line before. */
export type Position = { time: Moment; version: string }

/** An account's lines, newest first, from behind a position; none is one row without a line. */
export function newestLines(
  account: string,
  before: Position,
  limit: number,
): QueryConfig<unknown[]> {
  return {
    name: 'statements-newest',
    text: `select h.version as head_version, h.as_of, q.code as quarantined, l.* ${fromHeads}
      left join lateral (
        select ${lineColumns} from read.statement_lines l
          where l.account_id = h.account_id
            and (l.recorded_at, l.version) < ($2::timestamptz, $3::bigint)
          order by l.recorded_at desc, l.version desc limit $4) l on true
      where h.account_id = $1 order by l.recorded_at desc, l.version desc`,
    values: [account, before.time, before.version, limit],
  }
}

/**
 * The sum of what counts before a time; `<=`: up to it. By effective time: the movements recorded by
 * then without those whose times differ, and those of them that were effective by then.
 */
function balanceText(clock: Clock, compare: '<' | '<=', time: string): string {
  const recorded = (value: string) =>
    `coalesce((select ${value} from read.statement_lines l
        where l.account_id = h.account_id and l.recorded_at ${compare} ${time}
        order by l.recorded_at desc, l.version desc limit 1), 0)`
  if (clock === 'recorded') return recorded('l.balance')
  return `${recorded('l.balance - l.shifted_total')}
    + coalesce((select sum(s.total) from read.statement_shifts s
        where s.account_id = h.account_id and s.day < (${time} at time zone 'UTC')::date), 0)
    + coalesce((select sum(l.amount) from read.statement_lines l
        where l.account_id = h.account_id and l.effective_at <> l.recorded_at
          and l.effective_at >= date_trunc('day', ${time}, 'UTC')
          and l.effective_at ${compare} ${time}), 0)`
}

/** The balance just before a time, with the head of the same moment. */
export function openingAt(account: string, clock: Clock, from: Moment): QueryConfig<unknown[]> {
  return {
    name: `statements-opening-${clock}`,
    text: `select h.version, h.currency, h.exponent, h.as_of, q.code as quarantined,
        (${balanceText(clock, '<', '$2::timestamptz')})::text as balance
      ${fromHeads} where h.account_id = $1`,
    values: [account, from],
  }
}

/** The balance at a time; null is now, and never before what the account has recorded. */
export function balanceAt(account: string, clock: Clock, at: Date | null): QueryConfig<unknown[]> {
  return {
    name: `statements-balance-${clock}`,
    text: `select h.version, h.currency, h.exponent, h.as_of, q.code as quarantined,
        ${utc('t.at')} as at, (${balanceText(clock, '<=', 't.at')})::text as balance
      ${fromHeads}
      cross join lateral (select coalesce($2::timestamptz,
        greatest(clock_timestamp(), h.as_of::timestamptz)) as at offset 0) t
      where h.account_id = $1`,
    values: [account, at],
  }
}

export type LinesQuestion = {
  clock: Clock
  after: Position
  to: Moment
  /** Lines up to this version: those of later events are not of the statement that was begun. */
  version: string
  limit: number
}

/** An account's lines in the order of a clock, from behind a position up to a time. */
export function linesBetween(account: string, question: LinesQuestion): QueryConfig<unknown[]> {
  const { clock, after, to, version, limit } = question
  const part = (time: string, condition: string) =>
    `select l.*, ${time} as sorted_at from read.statement_lines l
      where l.account_id = $1 and (${time}, l.version) > ($2::timestamptz, $3::bigint)
        and ${time} < $4 and l.version <= $5 and ${condition}
      order by ${time}, l.version limit $6`
  const parts =
    clock === 'recorded'
      ? part('l.recorded_at', 'true')
      : `(${part('l.recorded_at', 'l.effective_at = l.recorded_at')})
        union all (${part('l.effective_at', 'l.effective_at <> l.recorded_at')})`
  return {
    name: `statements-lines-${clock}`,
    text: `select ${lineColumns} from (${parts}) l order by l.sorted_at, l.version limit $6`,
    values: [account, after.time, after.version, to, version, limit],
  }
}
