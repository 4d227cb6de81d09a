import type { Kysely, Selectable } from 'kysely'
import type { QuarantineTable, ReadDatabase } from 'migrations/read'
import type { Pool } from 'pg'
import { requireOperator } from 'service/access'
import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import { problem } from '../problems.ts'
import type { Projection } from '../projection.ts'
import { orUnavailable } from '../reading.ts'
import { inTransaction, type Transaction } from '../transaction.ts'
import { type Repairer, feedMissing } from './repairer.ts'

// What people see of the quarantine, and what operators do to it by hand: every act leaves a row in
// read.audit, written with the act itself.

export type QuarantineRoutesSettings = {
  /** Of the role sluice_query. */
  database: Kysely<ReadDatabase>
  /** Of the role sluice_projector. */
  pool: Pool
  repairers: readonly { projection: Projection; repairer: Repairer }[]
}

const deadlineMs = 10_000

const listParams = z.strictObject({ name: z.string() })
const entryParams = z.strictObject({ name: z.string(), account: z.string().max(100) })
const listQuery = z.strictObject({
  after: z.string().max(100).default(''),
  limit: z
    .string()
    .regex(/^([1-9]\d?|[1-4]\d\d|500)$/, 'must be from 1 to 500')
    .transform(Number)
    .default(100),
})
/** Why a person does what they do. */
export const givenReason = z
  .string()
  .trim()
  .regex(/^[^\0]{3,500}$/, 'must be 3 to 500 characters')
const retryBody = z.strictObject({ reason: givenReason.optional() }).default({})
const skipBody = z.strictObject({ reason: givenReason })

export function quarantineRoutes(settings: QuarantineRoutesSettings): Route[] {
  const entry = '/projections/:name/quarantine/:account'
  return [
    {
      method: 'GET',
      path: '/projections/:name/quarantine',
      handle: (request) => orUnavailable(() => list(settings, request)),
    },
    {
      method: 'POST',
      path: `${entry}/retry`,
      handle: (request) => orUnavailable(() => retry(settings, request)),
    },
    {
      method: 'POST',
      path: `${entry}/skip`,
      handle: (request) => orUnavailable(() => skip(settings, request)),
    },
  ]
}

/** Accounts in quarantine by id, from behind `after`; `next` is the `after` to go on with, or null. */
async function list(settings: QuarantineRoutesSettings, request: ApiRequest): Promise<ApiAnswer> {
  const { name } = parsePart(listParams, request.params, 'path')
  const { after, limit } = parsePart(listQuery, request.query, 'query')
  repairerOf(settings, name)
  const rows = await settings.database
    .selectFrom('read.quarantine')
    .selectAll()
    .where('projection', '=', name)
    .where('account_id', '>', after)
    .orderBy('account_id')
    .limit(limit + 1)
    .execute()
  const items = rows.slice(0, limit).map(resourceOf)
  return {
    status: 200,
    body: { items, next: rows.length > limit ? items.at(-1)!.account : null },
  }
}

/** Tries to repair the account now, and says what came of it. */
async function retry(settings: QuarantineRoutesSettings, request: ApiRequest): Promise<ApiAnswer> {
  requireOperator(request)
  const { name, account } = parsePart(entryParams, request.params, 'path')
  const { reason: why = null } = parsePart(retryBody, request.body)
  const repairer = repairerOf(settings, name)
  await act(settings.pool, request, { action: 'quarantine_retry', name, account, reason: why })
  return attempt(repairer, account)
}

/**
 * Says that what was seen of the account so far is not waited for, and that events up to there may
 * be left out where they cannot be read or stored; then tries to repair it.
 */
async function skip(settings: QuarantineRoutesSettings, request: ApiRequest): Promise<ApiAnswer> {
  requireOperator(request)
  const { name, account } = parsePart(entryParams, request.params, 'path')
  const { reason: why } = parsePart(skipBody, request.body)
  const repairer = repairerOf(settings, name)
  await act(settings.pool, request, { action: 'quarantine_skip', name, account, reason: why })
  return attempt(repairer, account)
}

async function attempt(repairer: Repairer, account: string): Promise<ApiAnswer> {
  const outcome = await repairer.attempt(account)
  if (outcome === undefined) throw problem('feed_missing', { detail: feedMissing })
  const released = outcome.kind !== 'waits'
  const { code = null, detail = null } = outcome.kind === 'waits' ? outcome.problem : {}
  return { status: 200, body: { account, released, problem: code, detail } }
}

type Act = {
  action: 'quarantine_retry' | 'quarantine_skip'
  name: string
  account: string
  reason: string | null
}

const changes = {
  quarantine_retry: 'attempts = 0, next_attempt_at = clock_timestamp()',
  quarantine_skip: `attempts = 0, next_attempt_at = clock_timestamp(), highest = 0,
    skip_through = greatest(highest, coalesce(wanted, 0), coalesce(skip_through, 0))`,
} as const

/** Changes the entry and writes down who did, with the entry as it was and as it is. */
async function act(pool: Pool, { caller }: ApiRequest, done: Act): Promise<void> {
  const { action, name, account, reason } = done
  await inTransaction(pool, deadlineMs, async (transaction) => {
    const before = await lockWhole(transaction, name, account)
    if (before === undefined) throw problem('not_in_quarantine', { detail: account })
    const { rows } = await transaction.query<{ after: unknown }>(
      `update read.quarantine q set ${changes[action]}
        where projection = $1 and account_id = $2 returning to_jsonb(q) as after`,
      [name, account],
    )
    await transaction.query(
      `insert into read.audit (caller, role, action, projection, account_id, reason, before, after)
        values ($1, $2, $3, $4, $5, $6, $7, $8)`,
      [caller.name, caller.role, action, name, account, reason, before, rows[0]!.after],
    )
  })
}

async function lockWhole(
  transaction: Transaction,
  projection: string,
  account: string,
): Promise<unknown> {
  const { rows } = await transaction.query<{ entry: unknown }>(
    `select to_jsonb(q) as entry from read.quarantine q
      where projection = $1 and account_id = $2 for update`,
    [projection, account],
  )
  return rows[0]?.entry
}

function repairerOf({ repairers }: QuarantineRoutesSettings, name: string): Repairer {
  const found = repairers.find(({ projection }) => projection.name === name)
  if (found === undefined) throw problem('projection_not_found', { detail: name })
  return found.repairer
}

const numberOr = (text: string | null) => (text === null ? null : Number(text))

function resourceOf(row: Selectable<QuarantineTable>) {
  return {
    account: row.account_id,
    code: row.code,
    detail: row.detail,
    wanted: numberOr(row.wanted),
    seen: numberOr(row.seen),
    highest: Number(row.highest),
    topic: row.topic,
    partition: row.partition,
    offset: numberOr(row.record_offset),
    since: row.since.toISOString(),
    skipThrough: numberOr(row.skip_through),
    attempts: row.attempts,
    nextAttemptAt: row.next_attempt_at.toISOString(),
    problem: row.problem,
    problemDetail: row.problem_detail,
  }
}
