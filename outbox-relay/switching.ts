import type { Pool } from 'migrations/database'
import { catalogue, httpProblem } from 'service/problem'
import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import type { Config } from './config.ts'
import { whyNoConnector } from './debezium/debezium-mode.ts'
import { type Mode, modes, whyNot } from './modes.ts'
import { type Asking, askForMode, readCourse } from './switch-table.ts'

// Asking for a mode. Any relay may be asked: it writes to the row, and the leader acts. What is asked is
// refused where it is known at once that it cannot be; what only takes long can be cancelled.

const problem = catalogue({
  not_allowed: { status: 403, title: 'Your role may not do this' },
  mode_unavailable: { status: 409, title: 'The relay cannot go into this mode' },
  no_switch: { status: 404, title: 'No switch is under way' },
})

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

const reason = z
  .string()
  .trim()
  .regex(/^[^\0]{3,500}$/, 'must be 3 to 500 characters')
const modeBody = z.strictObject({
  mode: z.enum(modes, { error: 'must be polling, wal or debezium' }),
  reason: reason.optional(),
})

/** `PUT /relay/mode` and `DELETE /relay/switch`, for operators. Both answer with where the relay is going. */
export function switchRoutes(db: Pool, config: Needs): Route[] {
  return [
    {
      method: 'PUT',
      path: '/relay/mode',
      async handle(request) {
        requireOperator(request)
        const { mode, reason: why = null } = parsePart(modeBody, request.body)
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
        const cancelled = await ask(db, { mode: null, actor: request.caller.name, reason: null })
        if (!cancelled) throw problem('no_switch')
        return course(db)
      },
    },
  ]
}

/** 202 while the relay is on its way. */
async function course(db: Pool): Promise<ApiAnswer> {
  const { mode, switching } = await orUnavailable(readCourse(db))
  return { status: switching === null ? 200 : 202, body: { mode, switching } }
}

const ask = (db: Pool, asking: Asking) => orUnavailable(askForMode(db, asking))

export async function orUnavailable<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (cause) {
    const unavailable = httpProblem('unavailable', { detail: 'the write database is away' })
    throw Object.assign(unavailable, { cause })
  }
}

function requireOperator({ caller }: ApiRequest): void {
  if (caller.role === 'operator') return
  throw problem('not_allowed', { detail: `this is for operators, and you are a ${caller.role}` })
}
