import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import type { CursorPlace } from '../cursor.ts'
import {
  accountMissing,
  accountParams,
  cursorPosition,
  nextCursor,
  pageParams,
  quarantineHeader,
  type ReadSettings,
  readRoute,
} from '../reading.ts'
import type { Queryable } from '../transaction.ts'
import { holds } from './holds.ts'

const statuses = ['active', 'captured', 'released', 'expired'] as const

const holdsQuery = z.strictObject({ status: z.enum(statuses).optional(), ...pageParams })

/** As the command API's hold, with how it ended. */
type HoldRow = {
  id: string
  amount: string
  currency: string
  reference: string | null
  status: (typeof statuses)[number]
  expires_at: Date
  placed_version: string
  placed_at: Date
  ended_version: string | null
  ended_at: Date | null
  captured_amount: string | null
  transaction_id: string | null
}

export function holdRoutes(settings: ReadSettings): Route[] {
  const freshness = settings.freshnessOf(holds)
  return [readRoute(freshness, '/accounts/:id/holds', (request) => holdList(settings, request))]
}

/** In the order in which they were placed. */
function holdList({ reader, cursorSecret }: ReadSettings, request: ApiRequest) {
  const { id } = parsePart(accountParams, request.params, 'path')
  const { limit, cursor, status } = parsePart(holdsQuery, request.query, 'query')
  const place: CursorPlace = { list: 'holds', filters: { id, status } }
  const after = cursorPosition(cursorSecret, place, cursor)
  return async (): Promise<ApiAnswer> => {
    const head = await findHead(reader, id)
    if (head === undefined) throw await accountMissing(reader, holds, id)
    const { quarantined, ...read } = head
    const headers = quarantineHeader([{ id, quarantined }])
    const rows = await findHolds(reader, { id, status, after: after ?? '0', most: limit + 1 })
    const more = rows.length > limit
    const items = rows.slice(0, limit)
    const next = nextCursor(cursorSecret, place, { more, last: items.at(-1)?.placed_version })
    return { status: 200, headers, body: { items: items.map(holdOf), next, ...read } }
  }
}

function holdOf(row: HoldRow) {
  return {
    id: row.id,
    amount: row.amount,
    currency: row.currency,
    reference: row.reference,
    status: row.status,
    expiresAt: row.expires_at.toISOString(),
    placedAt: row.placed_at.toISOString(),
    endedAt: row.ended_at?.toISOString() ?? null,
    capturedAmount: row.captured_amount,
    transactionId: row.transaction_id,
    /** The account's version that last changed it. */
    version: Number(row.ended_version ?? row.placed_version),
  }
}

type HeadRow = { version: string; as_of: Date; quarantined: string | null }

async function findHead(reader: Queryable, id: string) {
  const { rows } = await reader.query<HeadRow>({
    name: 'holds-head',
    text: `select h.version, h.as_of, q.code as quarantined from read.holds_heads h
      left join read.quarantine q on q.projection = $1 and q.account_id = h.account_id
      where h.account_id = $2`,
    values: [holds.name, id],
  })
  const [row] = rows
  if (row === undefined) return undefined
  const { version, as_of: asOf, quarantined } = row
  return { version: Number(version), asOf: asOf.toISOString(), quarantined }
}

type HoldsQuestion = {
  id: string
  status: HoldRow['status'] | undefined
  after: string
  most: number
}

async function findHolds(
  reader: Queryable,
  { id, status, after, most }: HoldsQuestion,
): Promise<HoldRow[]> {
  const ofStatus = status === undefined ? '' : 'and status = $4'
  const { rows } = await reader.query<HoldRow>({
    name: `holds-list${status === undefined ? '' : '-by-status'}`,
    text: `select * from read.holds
      where account_id = $1 and placed_version > $2 ${ofStatus}
      order by placed_version limit $3`,
    values: [id, after, most, ...(status === undefined ? [] : [status])],
  })
  return rows
}
