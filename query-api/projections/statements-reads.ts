import { httpProblem } from 'service/problem'
import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import type { CursorPlace } from '../cursor.ts'
import {
  accountMissing,
  accountParams,
  cursorPosition,
  moment,
  nextCursor,
  pageParams,
  quarantineHeader,
  readRoute,
  type ReadSettings,
} from '../reading.ts'
import { csvOf, prefersCsv } from './statements-csv.ts'
import {
  balanceAt,
  type Clock,
  type HeadRow,
  type LineRow,
  linesBetween,
  type Moment,
  newestLines,
  openingAt,
} from './statements-queries.ts'
import { statements } from './statements.ts'

/** What the projection `statements` answers. */
export function statementRoutes(settings: ReadSettings): Route[] {
  const freshness = settings.freshnessOf(statements)
  const read = (name: string, answer: typeof transactions) =>
    readRoute(freshness, `/accounts/:id/${name}`, (request) => answer(settings, request))
  return [
    read('transactions', transactions),
    read('statement', statement),
    read('balance', balance),
  ]
}

const clock = z.enum(['recorded', 'effective']).default('recorded')
const listQuery = z.strictObject(pageParams)
const balanceQuery = z.strictObject({ at: moment.optional(), clock })
const statementQuery = z.strictObject({
  from: moment.optional(),
  to: moment.optional(),
  clock,
  limit: z
    .string()
    .regex(/^([1-9]\d?|[1-4]\d\d|500)$/, 'must be from 1 to 500')
    .transform(Number)
    .default(500),
  cursor: z.string().optional(),
})

type Line = ReturnType<typeof lineOf>

/** A movement as callers see it: the amount is positive, `direction` says which way it went. */
function lineOf(row: LineRow, balanceAfter: string) {
  const amount = BigInt(row.amount)
  return {
    version: Number(row.version),
    transactionId: row.transaction_id,
    kind: row.kind,
    direction: amount < 0n ? 'debit' : 'credit',
    amount: String(amount < 0n ? -amount : amount),
    balance: balanceAfter,
    recordedAt: milliseconds(row.recorded_at),
    effectiveAt: milliseconds(row.effective_at),
    reference: row.reference,
    counterpartyId: row.counterparty_id,
    ...relatedOf(row),
  }
}

function relatedOf({ kind, related_id: id }: LineRow) {
  if (kind === 'transfer_out' || kind === 'transfer_in') return { transferId: id }
  if (kind === 'hold_capture') return { holdId: id }
  return kind === 'reversal' ? { reversedTransactionId: id } : {}
}

const milliseconds = (time: string) => time.replace(/\d{3}Z$/, 'Z')

/** How far the projection is with the account: of every answer. */
const headOf = ({ version, as_of }: Pick<HeadRow, 'version' | 'as_of'>) => ({
  version: Number(version),
  asOf: milliseconds(as_of),
})

const largestVersion = String(2n ** 63n - 1n)

function transactions({ reader, cursorSecret }: ReadSettings, request: ApiRequest) {
  const { id } = parsePart(accountParams, request.params, 'path')
  const { limit, cursor } = parsePart(listQuery, request.query, 'query')
  const place: CursorPlace = { list: 'transactions', filters: { id } }
  const position = cursorPosition(cursorSecret, place, cursor)
  const [time = 'infinity', version = largestVersion] = position?.split('/') ?? []
  return async (): Promise<ApiAnswer> => {
    type Row = LineRow & Pick<HeadRow, 'as_of' | 'quarantined'> & { head_version: string }
    const { rows } = await reader.query<Row>(newestLines(id, { time, version }, limit + 1))
    const [head] = rows
    if (head === undefined) throw await accountMissing(reader, statements, id)
    const shown = rows.filter((row) => row.version !== null).slice(0, limit)
    const end = shown.at(-1)
    const last = end && `${end.recorded_at}/${end.version}`
    const body = {
      items: shown.map((row) => lineOf(row, row.balance)),
      next: nextCursor(cursorSecret, place, { more: rows.length > limit, last }),
      ...headOf({ ...head, version: head.head_version }),
    }
    return { status: 200, headers: quarantineHeader([{ id, ...head }]), body }
  }
}

function balance({ reader }: ReadSettings, request: ApiRequest) {
  const { id } = parsePart(accountParams, request.params, 'path')
  const { at, clock: by } = parsePart(balanceQuery, request.query, 'query')
  return async (): Promise<ApiAnswer> => {
    const asked = balanceAt(id, by, at === undefined ? null : new Date(at))
    const { rows } = await reader.query<HeadRow & { balance: string; at: string }>(asked)
    const [row] = rows
    if (row === undefined) throw await accountMissing(reader, statements, id)
    const { currency, exponent } = row
    const body = {
      accountId: id,
      currency,
      exponent,
      clock: by,
      at: at ?? milliseconds(row.at),
      balance: row.balance,
      ...headOf(row),
    }
    return { status: 200, headers: quarantineHeader([{ id, ...row }]), body }
  }
}

/** One page. Its closing balance is the next one's opening balance, so each of them foots. */
type Page = {
  accountId: string
  currency: string
  exponent: number
  clock: Clock
  from: string | null
  to: string | null
  opening: string
  lines: Line[]
  closing: string
  next: string | null
  version: number
  asOf: string
}

type Question = {
  id: string
  by: Clock
  from: string | undefined
  to: string | undefined
  limit: number
  place: CursorPlace
  position: string | undefined
}

function statement(settings: ReadSettings, request: ApiRequest) {
  const { id } = parsePart(accountParams, request.params, 'path')
  const { from, to, clock: by, limit, cursor } = parsePart(statementQuery, request.query, 'query')
  if (from !== undefined && to !== undefined && new Date(from) > new Date(to)) {
    const errors = [{ pointer: 'query/to', message: 'must not be before from' }]
    throw httpProblem('invalid_request', { errors })
  }
  const place: CursorPlace = { list: 'statement', filters: { id, from, to, by } }
  const position = cursorPosition(settings.cursorSecret, place, cursor)
  const question: Question = { id, by, from, to, limit, place, position }
  const asCsv = prefersCsv(request.header('Accept'))
  return async (): Promise<ApiAnswer> => {
    const { page, quarantined } = await readPage(settings, question)
    const headers = { Vary: 'Accept', ...quarantineHeader([{ id, quarantined }]) }
    if (!asCsv) return { status: 200, headers, body: page }
    const query = new URLSearchParams({ ...request.query, cursor: page.next ?? '' })
    const link =
      page.next === null ? {} : { Link: `<${request.path}?${query.toString()}>; rel="next"` }
    return {
      status: 200,
      headers: {
        ...headers,
        ...link,
        'Content-Disposition': `attachment; filename="statement-${id}.csv"`,
      },
      contentType: 'text/csv; charset=utf-8; header=present',
      text: csvOf(csvRows(page, { isFirst: position === undefined })),
    }
  }
}

async function readPage(
  { reader, cursorSecret }: ReadSettings,
  { id, by, from, to, limit, place, position }: Question,
): Promise<{ page: Page; quarantined: string | null }> {
  const [pinned, carried, ...after] = position?.split('/') ?? []
  const start: Moment = from === undefined ? '-infinity' : new Date(from)
  const opened = await reader.query<HeadRow & { balance: string }>(openingAt(id, by, start))
  const [head] = opened.rows
  if (head === undefined) throw await accountMissing(reader, statements, id)
  const opening = carried ?? head.balance
  const { rows } = await reader.query<LineRow>(
    linesBetween(id, {
      clock: by,
      after: { time: after[0] ?? start, version: after[1] ?? '-1' },
      to: to === undefined ? 'infinity' : new Date(to),
      version: pinned ?? head.version,
      limit: limit + 1,
    }),
  )
  let running = BigInt(opening)
  const lines = rows
    .slice(0, limit)
    .map((row) => lineOf(row, String((running += BigInt(row.amount)))))
  const end = rows[lines.length - 1]
  const time = by === 'recorded' ? end?.recorded_at : end?.effective_at
  const last = end && [pinned ?? head.version, running, time, end.version].join('/')
  const page = {
    accountId: id,
    currency: head.currency,
    exponent: head.exponent,
    clock: by,
    from: from ?? null,
    to: to ?? null,
    opening,
    lines,
    closing: String(running),
    next: nextCursor(cursorSecret, place, { more: rows.length > limit, last }),
    ...headOf(head),
  }
  return { page, quarantined: head.quarantined }
}

const csvHeader = [
  'kind',
  'recordedAt',
  'effectiveAt',
  'amountMinor',
  'balanceMinor',
  'currency',
  'exponent',
  'transactionId',
  'counterpartyId',
  'reference',
  'version',
]

/** Pages put together foot as one: only the first has an opening row, only the last a closing one. */
function csvRows(page: Page, { isFirst }: { isFirst: boolean }) {
  const { currency, exponent } = page
  const rest = [null, null, null, null]
  const edge = (kind: string, time: string | null, amount: string) =>
    [kind, time, time, null, BigInt(amount), currency, exponent].concat(rest)
  const lines = page.lines.map((line) => [
    line.kind,
    line.recordedAt,
    line.effectiveAt,
    BigInt(line.amount) * (line.direction === 'debit' ? -1n : 1n),
    BigInt(line.balance),
    currency,
    exponent,
    line.transactionId,
    line.counterpartyId,
    line.reference,
    line.version,
  ])
  return [
    csvHeader,
    ...(isFirst ? [edge('opening', page.from, page.opening)] : []),
    ...lines,
    ...(page.next === null ? [edge('closing', page.to, page.closing)] : []),
  ]
}
