import { requireOperator } from 'service/access'
import { httpProblem } from 'service/problem'
import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import { askForRelease, askForReleaseOfAll, listParked } from './parked-acts.ts'
import { orUnavailable, reason } from './operator-requests.ts'
import type { Aggregate } from './parking.ts'
import { problem } from './problems.ts'
import type { Queryable } from './text-query.ts'

const name = z.string().regex(/^[^\0]{0,1000}$/, 'must be at most 1000 characters')
const aggregateParams = z.strictObject({ aggregatetype: name, aggregateid: name })
const listQuery = z.strictObject({
  after: z.string().max(4_000).optional(),
  limit: z
    .string()
    .regex(/^([1-9]\d?|[1-4]\d\d|500)$/, 'must be from 1 to 500')
    .transform(Number)
    .default(100),
})
const actBody = z.strictObject({ reason })
const cursorContent = z.tuple([name, name])

/** Which aggregates are parked, and what an operator has the leader do about one. */
export function parkingRoutes(db: Queryable): Route[] {
  const one = '/relay/parked/:aggregatetype/:aggregateid'
  const route = (method: 'GET' | 'POST', path: string, answer: Answer): Route => ({
    method,
    path,
    handle: (request) => orUnavailable(answer(db, request)),
  })
  return [
    route('GET', '/relay/parked', list),
    route('POST', '/relay/parked/retry', retryAll),
    route('POST', `${one}/retry`, (...asked) => act('retry', ...asked)),
    route('POST', `${one}/skip`, (...asked) => act('skip', ...asked)),
  ]
}

type Answer = (db: Queryable, request: ApiRequest) => Promise<ApiAnswer>

async function list(db: Queryable, { caller, query }: ApiRequest): Promise<ApiAnswer> {
  if (caller.role === 'customer') {
    throw httpProblem('not_allowed', { detail: 'this is not for customers' })
  }
  const { after, limit } = parsePart(listQuery, query, 'query')
  const start = after === undefined ? { aggregateType: '', aggregateId: '' } : decoded(after)
  const found = await listParked(db, { after: start, limit: limit + 1 })
  const items = found.slice(0, limit)
  const last = items.at(-1)
  const next = found.length > limit && last !== undefined ? encoded(last) : null
  return { status: 200, body: { items, next } }
}

/** 202: whoever leads does it, and the list tells what came of it. */
async function act(kind: 'retry' | 'skip', db: Queryable, request: ApiRequest): Promise<ApiAnswer> {
  requireOperator(request)
  const { caller, params, body } = request
  const asked = parsePart(aggregateParams, params, 'path')
  const { reason: why } = parsePart(actBody, body)
  const aggregate = { aggregateType: asked.aggregatetype, aggregateId: asked.aggregateid }
  const answer = await askForRelease(db, kind, { ...aggregate, actor: caller.name, reason: why })
  if (typeof answer === 'string') {
    throw problem(answer, { detail: `${aggregate.aggregateType} ${aggregate.aggregateId}` })
  }
  return { status: 202, body: answer }
}

/** 202 with how many: whoever leads does it. */
async function retryAll(db: Queryable, request: ApiRequest): Promise<ApiAnswer> {
  requireOperator(request)
  const { reason: why } = parsePart(actBody, request.body)
  const aggregates = await askForReleaseOfAll(db, { actor: request.caller.name, reason: why })
  return { status: 202, body: { aggregates } }
}

const encoded = ({ aggregateType, aggregateId }: Aggregate) =>
  Buffer.from(JSON.stringify([aggregateType, aggregateId])).toString('base64url')

function decoded(cursor: string): Aggregate {
  try {
    const text = Buffer.from(cursor, 'base64url').toString()
    const [aggregateType, aggregateId] = cursorContent.parse(JSON.parse(text))
    return { aggregateType, aggregateId }
  } catch {
    throw problem('invalid_cursor')
  }
}
