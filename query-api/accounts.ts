import { strict as assert } from 'node:assert'
import type { AccountEventPayload } from 'command-api/events'
import { type Kysely, type Selectable } from 'kysely'
import type { ReadAccountTable, ReadDatabase } from 'migrations/read'
import { guardEvents, type Head } from './guard.ts'
import type { Applied, ProjectedEvent, Projection, Transaction } from './projection.ts'

// The projection `accounts`: one row per account, as its last event left it. A batch costs a fixed
// number of statements: read the rows' heads under lock, fold in memory, insert new, update old.

export const accounts: Projection = { name: 'accounts', apply }

async function apply(
  transaction: Transaction,
  events: readonly ProjectedEvent[],
): Promise<Applied> {
  if (events.length === 0) return { applied: 0, duplicates: 0 }
  const heads = await lockHeads(transaction, [...new Set(events.map(({ account }) => account))])
  const { accepted, duplicates, refusal } = guardEvents(heads, events)
  const opened: Opened[] = []
  const changed: Changed[] = []
  let applied = 0
  for (const [account, own] of accepted) {
    applied += own.length
    const state = stateAfter(own.at(-1)!)
    if (heads.has(account)) changed.push(state)
    else opened.push({ ...state, ...openingOf(own[0]!) })
  }
  await insertOpened(transaction, opened)
  await updateChanged(transaction, changed)
  return refusal === undefined ? { applied, duplicates } : { applied, duplicates, refusal }
}

type HeadRow = { id: string; version: string; last_event_id: string }

/** In one order for everybody, so that two transactions wait for each other and never in a circle. */
async function lockHeads(transaction: Transaction, ids: string[]): Promise<Map<string, Head>> {
  const { rows } = await transaction.query<HeadRow>({
    name: 'accounts-heads',
    text: `select id, version, last_event_id from read.accounts
      where id = any($1) order by id for update`,
    values: [ids],
  })
  return new Map(
    rows.map((row) => [row.id, { version: Number(row.version), lastEventId: row.last_event_id }]),
  )
}

/** What every event says of its account: the state after it. */
type Changed = {
  id: string
  version: number
  eventId: string
  asOf: string
  after: AccountEventPayload<'AccountClosed.v1'>['after']
}

type Opened = Changed & { opening: AccountEventPayload<'AccountOpened.v1'>; openedAt: string }

function stateAfter({ account, version, id, event }: ProjectedEvent): Changed {
  return { id: account, version, eventId: id, asOf: event.at, after: event.payload.after }
}

function openingOf({ event }: ProjectedEvent): Pick<Opened, 'opening' | 'openedAt'> {
  assert(event.type === 'AccountOpened.v1', 'the first event of an account opens it')
  return { opening: event.payload, openedAt: event.at }
}

async function insertOpened(transaction: Transaction, rows: readonly Opened[]): Promise<void> {
  if (rows.length === 0) return
  await transaction.query({
    name: 'accounts-insert',
    text: `insert into read.accounts (id, owner, currency, exponent, type, overdraft_limit, metadata,
        opened_at, status, ledger_balance, held, available, version, last_event_id, as_of)
      select * from unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::text[],
        $6::bigint[], $7::jsonb[], $8::timestamptz[], $9::text[], $10::bigint[], $11::bigint[],
        $12::bigint[], $13::bigint[], $14::uuid[], $15::timestamptz[])`,
    values: [
      rows.map((row) => row.id),
      rows.map((row) => row.opening.owner),
      rows.map((row) => row.opening.currency),
      rows.map((row) => row.opening.exponent),
      rows.map((row) => row.opening.type),
      rows.map((row) => row.opening.overdraftLimit),
      rows.map((row) => JSON.stringify(row.opening.metadata)),
      rows.map((row) => row.openedAt),
      ...stateColumns(rows),
    ],
  })
}

async function updateChanged(transaction: Transaction, rows: readonly Changed[]): Promise<void> {
  if (rows.length === 0) return
  await transaction.query({
    name: 'accounts-update',
    text: `update read.accounts a set status = n.status, ledger_balance = n.ledger_balance,
        held = n.held, available = n.available, version = n.version,
        last_event_id = n.last_event_id, as_of = n.as_of
      from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
        $7::uuid[], $8::timestamptz[])
        as n(id, status, ledger_balance, held, available, version, last_event_id, as_of)
      where a.id = n.id`,
    values: [rows.map((row) => row.id), ...stateColumns(rows)],
  })
}

function stateColumns(rows: readonly Changed[]): unknown[][] {
  return [
    rows.map((row) => row.after.status),
    rows.map((row) => row.after.ledgerBalance),
    rows.map((row) => row.after.held),
    rows.map((row) => row.after.available),
    rows.map((row) => row.version),
    rows.map((row) => row.eventId),
    rows.map((row) => row.asOf),
  ]
}

type AccountResource = ReturnType<typeof resourceOf>

/** The account as callers see it: amounts are strings of minor units, times RFC 3339 in UTC. */
function resourceOf(row: Selectable<ReadAccountTable>) {
  return {
    id: row.id,
    owner: row.owner,
    currency: row.currency,
    exponent: row.exponent,
    type: row.type,
    status: row.status,
    freeze: row.frozen,
    ledgerBalance: row.ledger_balance,
    held: row.held,
    available: row.available,
    overdraftLimit: row.overdraft_limit,
    metadata: row.metadata,
    version: Number(row.version),
    openedAt: row.opened_at.toISOString(),
    asOf: row.as_of.toISOString(),
  }
}

export async function findAccount(
  database: Kysely<ReadDatabase>,
  id: string,
): Promise<AccountResource | undefined> {
  const row = await database
    .selectFrom('read.accounts')
    .selectAll()
    .where('id', '=', id)
    .executeTakeFirst()
  return row && resourceOf(row)
}

export type AccountFilters = {
  owner?: string | undefined
  status?: 'open' | 'closed' | undefined
  currency?: string | undefined
  /** Ledger balance in minor units, both ends included. */
  minBalance?: string | undefined
  maxBalance?: string | undefined
  /** From is included, to is not. */
  openedFrom?: Date | undefined
  openedTo?: Date | undefined
}

/** Accounts by id, from behind `after`; at most `limit`, and whether there are more. */
export async function listAccounts(
  database: Kysely<ReadDatabase>,
  filters: AccountFilters,
  { after, limit }: { after: string | undefined; limit: number },
): Promise<{ items: AccountResource[]; more: boolean }> {
  const { owner, status, currency, minBalance, maxBalance, openedFrom, openedTo } = filters
  let query = database
    .selectFrom('read.accounts')
    .selectAll()
    .orderBy('id')
    .limit(limit + 1)
  if (after !== undefined) query = query.where('id', '>', after)
  if (owner !== undefined) query = query.where('owner', '=', owner)
  if (status !== undefined) query = query.where('status', '=', status)
  if (currency !== undefined) query = query.where('currency', '=', currency)
  if (minBalance !== undefined) query = query.where('ledger_balance', '>=', minBalance)
  if (maxBalance !== undefined) query = query.where('ledger_balance', '<=', maxBalance)
  if (openedFrom !== undefined) query = query.where('opened_at', '>=', openedFrom)
  if (openedTo !== undefined) query = query.where('opened_at', '<', openedTo)
  const rows = await query.execute()
  return { items: rows.slice(0, limit).map(resourceOf), more: rows.length > limit }
}

/** How far this projection is with these accounts; an unknown one is left out. */
export async function accountVersions(
  database: Kysely<ReadDatabase>,
  ids: readonly string[],
): Promise<Map<string, number>> {
  const rows = await database
    .selectFrom('read.accounts')
    .select(['id', 'version'])
    .where('id', 'in', ids)
    .execute()
  return new Map(rows.map((row) => [row.id, Number(row.version)]))
}
