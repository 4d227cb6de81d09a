import type { Pool } from 'migrations/database'
import { requireOperator } from 'service/access'
import { type ApiAnswer, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import type { Config } from './config.ts'
import { whyNoConnector } from './debezium/debezium-mode.ts'
import { type Mode, modes, whyNot } from './modes.ts'
import { orUnavailable, reason } from './operator-requests.ts'
import { aggregatesParked } from './parking.ts'
import { readParkedCounts } from './parking-table.ts'
import { problem } from './problems.ts'
import { type Asking, askForMode, readCourse } from './switch-table.ts'

// Asking for a mode. Any relay may be asked: it writes to the row, and the leader acts. What is asked is
// refused where it is known at once that it cannot be; what only takes long can be cancelled.

type Needs = Pick<Config, 'CDC_DATABASE_URL' | 'CONNECT_URL'>

/** Why a mode cannot be begun at present, as a sentence; undefined when it can. */
export async function whyNotNow(
  mode: Mode,
  config: Needs,
  signal: AbortSignal,
): Promise<string | undefined> {
  const missing = whyNot(mode, config)
  if (missing !== undefined) return missing
  if (mode !== 'debezium' || config.CONNECT_URL === undefined) return undefined
  return whyNoConnector(config.CONNECT_URL, signal)
}

const modeBody = z.strictObject({
  mode: z.enum(modes, { error: 'must be polling, wal or debezium' }),
  reason: reason.optional(),
})
const cancelBody = z.strictObject({ reason: reason.optional() }).default({})

/** `PUT /relay/mode` and `DELETE /relay/switch`, for operators. Both answer with where the relay is going. */
export function switchRoutes(db: Pool, config: Needs): Route[] {
  return [
    {
      method: 'PUT',
      path: '/relay/mode',
      async handle(request) {
        requireOperator(request)
        const { mode, reason: why = null } = parsePart(modeBody, request.body)
        if (mode === 'debezium') await requireNothingParked(db)
        const refusal = await whyNotNow(mode, config, request.signal)
        if (refusal !== undefined) throw problem('mode_unavailable', { detail: refusal })
        await ask(db, { mode, actor: request.caller.name, reason: why })
        return course(db)
      },
    },
    {
      method: 'DELETE',
      path: '/relay/switch',
      async handle(request) {
        requireOperator(request)
        const { reason: why = null } = parsePart(cancelBody, request.body)
        const cancelled = await ask(db, { mode: null, actor: request.caller.name, reason: why })
        if (!cancelled) throw problem('no_switch')
        return course(db)
      },
    },
  ]
}

/** A connector would pass over what waits. */
async function requireNothingParked(db: Pool): Promise<void> {
  const { aggregates } = await orUnavailable(readParkedCounts(db))
  if (aggregates === 0) return
  throw problem('aggregates_parked', { detail: aggregatesParked(aggregates).message })
}

/** 202 while the relay is on its way. */
async function course(db: Pool): Promise<ApiAnswer> {
  const { mode, switching } = await orUnavailable(readCourse(db))
  return { status: switching === null ? 200 : 202, body: { mode, switching } }
}

const ask = (db: Pool, asking: Asking) => orUnavailable(askForMode(db, asking))
