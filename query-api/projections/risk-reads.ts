import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import type { CursorPlace } from '../cursor.ts'
import {
  accountParams,
  cursorPosition,
  moment,
  nextCursor,
  pageParams,
  quarantineHeader,
  type ReadSettings,
  readRoute,
} from '../reading.ts'
import type { Queryable } from '../transaction.ts'
import type { Flag, Witness } from './risk-rules.ts'
import { risk } from './risk.ts'

const flagsQuery = z.strictObject({
  account: accountParams.shape.id.optional(),
  kind: z.enum(['velocity', 'outlier', 'emptied']).optional(),
  /** When it was raised, by the events' own times: from is included, to is not. */
  from: moment.optional(),
  to: moment.optional(),
  ...pageParams,
})

type Filters = Pick<z.output<typeof flagsQuery>, 'account' | 'kind' | 'from' | 'to'>

export function riskRoutes(settings: ReadSettings): Route[] {
  const freshness = settings.freshnessOf(risk)
  return [readRoute(freshness, '/risk/flags', (request) => flagList(settings, request))]
}

/** The newest first. */
function flagList({ reader, cursorSecret }: ReadSettings, request: ApiRequest) {
  const { limit, cursor, ...filters } = parsePart(flagsQuery, request.query, 'query')
  const place: CursorPlace = { list: 'risk-flags', filters }
  const position = cursorPosition(cursorSecret, place, cursor)
  return async (): Promise<ApiAnswer> => {
    const rows = await findFlags(reader, filters, { position, most: limit + 1 })
    const more = rows.length > limit
    const items = rows.slice(0, limit)
    const last = items.at(-1)
    const next = nextCursor(cursorSecret, place, { more, last: last && positionOf(last) })
    const quarantined = items.map((row) => ({ ...row, id: row.account_id }))
    const body = { items: items.map(flagOf), next }
    return { status: 200, headers: quarantineHeader(quarantined), body }
  }
}

type FlagRow = {
  account_id: string
  version: string
  kind: Flag['kind']
  at: Date
  /** With its microseconds, which a Date has not. */
  moment: string
  detail: string
  events: Witness[]
  quarantined: string | null
}

function flagOf(row: FlagRow) {
  return {
    accountId: row.account_id,
    kind: row.kind,
    detail: row.detail,
    events: row.events,
    /** Of the event that raised it. */
    version: Number(row.version),
    asOf: row.at.toISOString(),
  }
}

function positionOf({ moment: at, account_id, version, kind }: FlagRow): string {
  return JSON.stringify([at, account_id, version, kind])
}

async function findFlags(
  reader: Queryable,
  { account, kind, from, to }: Filters,
  { position, most }: { position: string | undefined; most: number },
): Promise<FlagRow[]> {
  const values: unknown[] = [risk.name, most]
  const place = (value: unknown) => `$${values.push(value)}`
  const conditions = ['true']
  if (account !== undefined) conditions.push(`f.account_id = ${place(account)}`)
  if (kind !== undefined) conditions.push(`f.kind = ${place(kind)}`)
  if (from !== undefined) conditions.push(`f.at >= ${place(from)}`)
  if (to !== undefined) conditions.push(`f.at < ${place(to)}`)
  if (position !== undefined) {
    const [at, ...rest] = JSON.parse(position) as string[]
    const behind = [place(at), ...rest.map(place)].join(', ')
    // The first comparison is what an index of one account or kind can begin at.
    conditions.push(`f.at <= ${place(at)}`)
    conditions.push(`(f.at, f.account_id, f.version, f.kind) < (${behind})`)
  }
  const { rows } = await reader.query<FlagRow>(
    `select f.*, f.at::text as moment, q.code as quarantined from read.risk_flags f
      left join read.quarantine q on q.projection = $1 and q.account_id = f.account_id
      where ${conditions.join(' and ')}
      order by f.at desc, f.account_id desc, f.version desc, f.kind desc limit $2`,
    values,
  )
  return rows
}
