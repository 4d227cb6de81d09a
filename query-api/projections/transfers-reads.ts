import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import { problem } from '../problems.ts'
import { noQuery, quarantineHeader, type ReadSettings, readRoute } from '../reading.ts'
import type { Queryable } from '../transaction.ts'
import { transfers } from './transfers.ts'

type HalfRow = {
  side: 'from' | 'to'
  account_id: string
  counterparty_id: string
  transaction_id: string
  amount: string
  currency: string
  reference: string | null
  effective_at: Date
  version: string
  recorded_at: Date
  reversed_by: string | null
  reversed_at: Date | null
  quarantined: string | null
}

const transferParams = z.strictObject({ id: z.uuid('must be the id of a transfer').toLowerCase() })

export function transferRoutes(settings: ReadSettings): Route[] {
  const freshness = settings.freshnessOf(transfers)
  return [readRoute(freshness, '/transfers/:id', (request) => oneTransfer(settings, request))]
}

function oneTransfer({ reader }: ReadSettings, request: ApiRequest) {
  const { id } = parsePart(transferParams, request.params, 'path')
  parsePart(noQuery, request.query, 'query')
  return async (): Promise<ApiAnswer> => {
    const halves = await findHalves(reader, id)
    const [known] = halves
    if (known === undefined) throw problem('transfer_not_found')
    const body = transferOf(id, known, halves)
    const quarantined = halves.map((half) => ({ ...half, id: half.account_id }))
    const headers = { ETag: `"${body.version}"`, ...quarantineHeader(quarantined) }
    return { status: 200, headers, body }
  }
}

async function findHalves(reader: Queryable, id: string): Promise<HalfRow[]> {
  const { rows } = await reader.query<HalfRow>({
    name: 'transfer-halves',
    text: `select h.*, q.code as quarantined from read.transfer_halves h
      left join read.quarantine q on q.projection = $1 and q.account_id = h.account_id
      where h.transfer_id = $2`,
    values: [transfers.name, id],
  })
  return rows
}

/**
 * `partial`: the other account's half has not been read yet; which account that is, is known.
 * `version` counts the events that it is made of: two halves, and their reversals.
 */
function transferOf(id: string, known: HalfRow, halves: readonly HalfRow[]) {
  const times = halves.flatMap((half) => [half.recorded_at, half.reversed_at ?? half.recorded_at])
  const reversals = halves.flatMap((half) => half.reversed_by ?? [])
  return {
    id,
    transactionId: known.transaction_id,
    status: halves.length === 2 ? 'complete' : 'partial',
    amount: known.amount,
    currency: known.currency,
    reference: known.reference,
    effectiveAt: known.effective_at.toISOString(),
    from: sideOf('from', known, halves),
    to: sideOf('to', known, halves),
    reversedBy: reversals[0] ?? null,
    version: halves.length + reversals.length,
    asOf: new Date(Math.max(...times.map((time) => time.getTime()))).toISOString(),
  }
}

function sideOf(side: HalfRow['side'], known: HalfRow, halves: readonly HalfRow[]) {
  const half = halves.find((each) => each.side === side)
  if (half === undefined) {
    return { accountId: known.counterparty_id, version: null, recordedAt: null }
  }
  const { account_id: accountId, version, recorded_at: recordedAt } = half
  return { accountId, version: Number(version), recordedAt: recordedAt.toISOString() }
}
