import { strict as assert } from 'node:assert'
import type { AccountEventPayload } from 'command-api/events'
import { guardEvents } from '../guard.ts'
import { headsIn } from '../heads.ts'
import type { Applied, ProjectedEvent, Projection } from '../projection.ts'
import type { Transaction } from '../transaction.ts'

// The projection `accounts`: one row per account, as its last event left it. A batch costs a fixed
// number of statements: read the rows' heads under lock, fold in memory, insert new, update old.

const name = 'accounts'
const heads = headsIn({ projection: name, table: 'read.accounts', key: 'id' })

/**
 * An account that passes an event keeps what that event alone told of (freeze, limit, owner,
 * metadata); the next event makes its balances right, since each carries those after it.
 */
export const accounts: Projection = {
  name,
  apply,
  heads: heads.read,
  headsAfter: heads.after,
  versions: heads.versions,
  pass: heads.pass,
  async forget(transaction, account) {
    await heads.remove(transaction, account)
  },
}

async function apply(
  transaction: Transaction,
  events: readonly ProjectedEvent[],
): Promise<Applied> {
  if (events.length === 0) return { applied: 0, duplicates: 0, refusals: [] }
  const ids = [...new Set(events.map(({ account }) => account))]
  const locked = await heads.lock(transaction, ids)
  const { accepted, duplicates, refusals } = guardEvents(locked, events)
  const opened: Opened[] = []
  const changed: Changed[] = []
  let applied = 0
  for (const [account, own] of accepted) {
    applied += own.length
    const state = { ...stateAfter(own.at(-1)!), ...attributesAfter(own) }
    if (locked.has(account)) changed.push(state)
    else opened.push({ ...state, ...openingOf(own[0]!) })
  }
  insertOpened(transaction, opened)
  updateChanged(transaction, changed)
  return { applied, duplicates, refusals }
}

/** What every event says of its account: the state after it. */
type Changed = {
  id: string
  version: number
  eventId: string
  asOf: string
  after: AccountEventPayload<'AccountClosed.v1'>['after']
} & Attributes

/** What only some events say of it, as the last that did left it; null where none did. */
type Attributes = {
  /** 'none' is an account that was unfrozen. */
  frozen: AccountEventPayload<'AccountFrozen.v1'>['scope'] | 'none' | null
  overdraftLimit: string | null
  owner: string | null
  metadata: Readonly<Record<string, unknown>> | null
}

type Opened = Changed & { opening: AccountEventPayload<'AccountOpened.v1'>; openedAt: string }

function attributesAfter(events: readonly ProjectedEvent[]): Attributes {
  const after: Attributes = { frozen: null, overdraftLimit: null, owner: null, metadata: null }
  for (const { event } of events) {
    if (event.type === 'AccountFrozen.v1') after.frozen = event.payload.scope
    else if (event.type === 'AccountUnfrozen.v1') after.frozen = 'none'
    else if (event.type === 'OverdraftLimitChanged.v1') {
      after.overdraftLimit = event.payload.overdraftLimit
    } else if (event.type === 'AccountDetailsUpdated.v1') {
      after.owner = event.payload.owner
      after.metadata = event.payload.metadata
    }
  }
  return after
}

function stateAfter({
  account,
  version,
  id,
  event,
}: ProjectedEvent): Omit<Changed, keyof Attributes> {
  return { id: account, version, eventId: id, asOf: event.at, after: event.payload.after }
}

function openingOf({ event }: ProjectedEvent): Pick<Opened, 'opening' | 'openedAt'> {
  assert(event.type === 'AccountOpened.v1', 'the first event of an account opens it')
  return { opening: event.payload, openedAt: event.at }
}

function insertOpened(transaction: Transaction, rows: readonly Opened[]): void {
  if (rows.length === 0) return
  transaction.send({
    name: 'accounts-insert',
    text: `insert into read.accounts (id, owner, currency, exponent, type, overdraft_limit, metadata,
        opened_at, frozen, status, ledger_balance, held, available, version, last_event_id, as_of)
      select * from unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::text[],
        $6::bigint[], $7::jsonb[], $8::timestamptz[], $9::text[], $10::text[], $11::bigint[],
        $12::bigint[], $13::bigint[], $14::bigint[], $15::uuid[], $16::timestamptz[])`,
    values: [
      rows.map((row) => row.id),
      rows.map((row) => row.owner ?? row.opening.owner),
      rows.map((row) => row.opening.currency),
      rows.map((row) => row.opening.exponent),
      rows.map((row) => row.opening.type),
      rows.map((row) => row.overdraftLimit ?? row.opening.overdraftLimit),
      rows.map((row) => JSON.stringify(row.metadata ?? row.opening.metadata)),
      rows.map((row) => row.openedAt),
      rows.map((row) => (row.frozen === 'none' ? null : row.frozen)),
      ...stateColumns(rows),
    ],
  })
}

function updateChanged(transaction: Transaction, rows: readonly Changed[]): void {
  if (rows.length === 0) return
  transaction.send({
    name: 'accounts-update',
    text: `update read.accounts a set status = n.status, ledger_balance = n.ledger_balance,
        held = n.held, available = n.available, version = n.version,
        last_event_id = n.last_event_id, as_of = n.as_of,
        frozen = case when n.frozen is null then a.frozen else nullif(n.frozen, 'none') end,
        overdraft_limit = coalesce(n.overdraft_limit, a.overdraft_limit),
        owner = coalesce(n.owner, a.owner), metadata = coalesce(n.metadata, a.metadata)
      from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
        $7::uuid[], $8::timestamptz[], $9::text[], $10::bigint[], $11::text[], $12::jsonb[])
        as n(id, status, ledger_balance, held, available, version, last_event_id, as_of,
          frozen, overdraft_limit, owner, metadata)
      where a.id = n.id`,
    values: [
      rows.map((row) => row.id),
      ...stateColumns(rows),
      rows.map((row) => row.frozen),
      rows.map((row) => row.overdraftLimit),
      rows.map((row) => row.owner),
      rows.map((row) => row.metadata && JSON.stringify(row.metadata)),
    ],
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
