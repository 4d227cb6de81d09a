import { partitionOf } from 'kafka/partition'
import type { Pool } from 'pg'
import { requireOperator } from 'service/access'
import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import { problem } from '../problems.ts'
import { accountParams, orUnavailable } from '../reading.ts'
import { inTransaction } from '../transaction.ts'
import type { Tombstones } from './builder.ts'

// An account leaves the topic `account-state` only when an operator asks for it, and only once it is
// closed. It is written down here with the version it is removed up to, and the partition's builder
// does it with its next records; a reopened account's later states are written again.

const deadlineMs = 10_000

const body = z.strictObject({
  reason: z
    .string()
    .trim()
    .regex(/^[^\0]{3,500}$/, 'must be 3 to 500 characters'),
})

/** Of the topic, as of the one that it is made from: their number never changes. */
const partitions = 12

/** `pool` is of the role sluice_projector. */
type TombstoneSettings = { pool: Pool }

export function tombstoneRoutes(settings: TombstoneSettings): Route[] {
  return [
    {
      method: 'POST',
      path: '/account-state/:id/tombstone',
      handle: (request) => orUnavailable(() => askFor(settings, request)),
    },
  ]
}

async function askFor({ pool }: TombstoneSettings, request: ApiRequest): Promise<ApiAnswer> {
  requireOperator(request)
  const { id } = parsePart(accountParams, request.params, 'path')
  const { reason } = parsePart(body, request.body)
  const { name, role } = request.caller
  const throughVersion = await inTransaction(pool, deadlineMs, async (transaction) => {
    const { rows } = await transaction.query<{ status: string; version: string }>(
      'select status, version from read.accounts where id = $1 for share',
      [id],
    )
    const [account] = rows
    if (account === undefined) throw problem('account_not_found', { detail: id })
    if (account.status !== 'closed') throw problem('account_not_closed', { detail: id })
    const { rows: after } = await transaction.query<{ entry: unknown }>(
      `insert into read.account_state_tombstones as t (account_id, partition, through_version)
        values ($1, $2, $3)
        on conflict (account_id) do update set through_version = excluded.through_version,
          asked_at = excluded.asked_at, written_at = null
        returning to_jsonb(t) as entry`,
      [id, partitionOf(id, partitions), account.version],
    )
    await transaction.query(
      `insert into read.audit (caller, role, action, projection, account_id, reason, before, after)
        values ($1, $2, 'state_tombstone', 'account-state', $3, $4, $5, $6)`,
      [name, role, id, reason, account, after[0]!.entry],
    )
    return Number(account.version)
  })
  return { status: 202, body: { account: id, throughVersion } }
}

export function storedTombstones(pool: Pool): Tombstones {
  return {
    async of(partition, accounts) {
      const { rows } = await pool.query<Row>({
        name: 'state-tombstones',
        text: `select account_id, through_version, written_at is null and partition = $1 as due
          from read.account_state_tombstones
          where account_id = any($2) or (partition = $1 and written_at is null)`,
        values: [partition, accounts],
      })
      return {
        due: rows.filter(({ due }) => due).map(({ account_id }) => account_id),
        through: new Map(
          rows.map(({ account_id, through_version }) => [account_id, Number(through_version)]),
        ),
      }
    },
    async written(accounts) {
      await pool.query(
        `update read.account_state_tombstones set written_at = clock_timestamp()
          where account_id = any($1)`,
        [accounts],
      )
    },
  }
}

type Row = { account_id: string; through_version: string; due: boolean }
