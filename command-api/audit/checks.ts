import { isDeepStrictEqual } from 'node:util'
import type { ClientBase } from 'pg'
import { availableOf, evolve, type Account } from '../account.ts'
import { holdAfter, type Hold } from '../books.ts'
import { parseAccountEvent, type AccountEvent } from '../events.ts'

// What the write side keeps, held against what happened. The SQL is the audit's own: it shares with
// the command side only what an event means.

/** A check that failed, and the first place where it did. */
export type Divergence = { check: CheckName; at: string; expected: unknown; found: unknown }

type CheckName =
  | 'event_unreadable'
  | 'versions_1_to_n'
  | 'positions_in_version_order'
  | 'queue_holds_the_event'
  | 'account_is_fold'
  | 'hold_is_fold'
  | 'reversal_is_fold'
  | 'nothing_below_its_limit'
  | 'held_is_sum_of_active_holds'
  | 'balance_is_sum_of_entries'
  | 'entries_sum_to_zero'

export type EventRow = {
  account_id: string
  version: string
  type: string
  payload: string
  at: string
  position: string
  /** Whether the queue's row of this position, if it is still kept, is this event. */
  queued: boolean | null
}

/** What the tables say of one account. */
export type AccountState = {
  account: Account | null
  holds: ReadonlyMap<string, Hold>
  heldByHolds: bigint
  balanceByEntries: bigint
}

const eventText = `
select e.account_id, e.version, e.type, e.payload::text as payload,
  to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at,
  e.outbox_position as position, o.id = e.id as queued
from ledger.account_events e left join outbox.events o on o.position = e.outbox_position
where (e.account_id, e.version) > ($1, $2)
order by e.account_id, e.version limit $3`

const pageRows = 5_000

/** Every account's events, by account and version; a page of rows at a time. */
export async function* events(client: ClientBase): AsyncGenerator<EventRow> {
  for (let [account, version] = ['', '0']; ;) {
    const values = [account, version, pageRows]
    const { rows } = await client.query<EventRow>({ name: 'audit-events', text: eventText, values })
    yield* rows
    const last = rows.at(-1)
    if (last === undefined || rows.length < pageRows) return
    ;[account, version] = [last.account_id, last.version]
  }
}

/** What one account's events make of it, one after another. */
export class Fold {
  readonly id: string
  #account: Account | null = null
  readonly #holds = new Map<string, Hold>()
  #version = 0
  #position = 0n

  constructor(id: string) {
    this.id = id
  }

  /** The first thing about an event that is not as it must be; null when it was taken in. */
  add(row: EventRow): Divergence | null {
    const at = `${this.id} version ${row.version}`
    if (Number(row.version) !== this.#version + 1) {
      return diverged('versions_1_to_n', at, [this.#version + 1, Number(row.version)])
    }
    this.#version += 1
    const position = BigInt(row.position)
    if (position <= this.#position) {
      return diverged('positions_in_version_order', at, [`> ${this.#position}`, row.position])
    }
    this.#position = position
    if (row.queued === false) {
      return diverged('queue_holds_the_event', `${at}, position ${position}`, ['it', 'another'])
    }
    return this.#take(row, at)
  }

  #take(row: EventRow, at: string): Divergence | null {
    let event: AccountEvent
    try {
      event = parseAccountEvent(row.type, row.at, row.payload)
    } catch (error) {
      return diverged('event_unreadable', at, [row.type, (error as Error).message])
    }
    const available = this.#account === null ? 0n : availableOf(this.#account)
    try {
      this.#account = evolve(this.#account, event)
      if ('holdId' in event.payload) {
        const { holdId } = event.payload
        this.#holds.set(holdId, holdAfter(this.#holds.get(holdId) ?? null, event))
      }
      return belowLimit(event, available, availableOf(this.#account), at)
    } catch (error) {
      // Evolve asserts what the event says of the account after it.
      const { message, expected, actual } = error as Error & { expected: unknown; actual: unknown }
      return diverged('account_is_fold', `${at}: ${message}`, [actual, expected])
    }
  }

  /** The first thing that the tables say otherwise of the account; null when they agree. */
  compare(found: AccountState): Divergence | null {
    const { id } = this
    const account = this.#account
    if (!isDeepStrictEqual(found.account, account)) {
      return diverged('account_is_fold', id, [account, found.account])
    }
    const held = account?.held ?? 0n
    if (found.heldByHolds !== held) {
      return diverged('held_is_sum_of_active_holds', id, [held, found.heldByHolds])
    }
    if (!isDeepStrictEqual(found.holds, this.#holds)) {
      return diverged('hold_is_fold', id, [[...this.#holds.values()], [...found.holds.values()]])
    }
    const balance = account?.ledgerBalance ?? 0n
    if (found.balanceByEntries === balance) return null
    return diverged('balance_is_sum_of_entries', id, [balance, found.balanceByEntries])
  }
}

/** Only force takes what is available below zero; what is there may stay there, and rise. */
function belowLimit(
  { type }: AccountEvent,
  before: bigint,
  after: bigint,
  at: string,
): Divergence | null {
  if (after >= 0n || after >= before || type === 'FundsForceDebited.v1') return null
  return diverged('nothing_below_its_limit', at, ['>= 0 available', after])
}

function diverged(
  check: CheckName,
  at: string,
  [expected, found]: readonly [unknown, unknown],
): Divergence {
  return { check, at, expected, found }
}

type StateRow = Record<
  'wanted' | 'held_by_holds' | 'balance_by_entries' | 'ledger_balance' | 'held' | 'version',
  string
> &
  Record<'overdraft_limit' | 'owner' | 'currency', string> &
  Pick<Account, 'exponent' | 'type' | 'status' | 'metadata'> & {
    /** Null where there is no such account: then so is all that follows. */
    id: string | null
    frozen: Account['freeze']
    opened_at: Date
    as_of: Date
  }

type HoldRow = Record<'id' | 'account_id' | 'amount', string> & {
  status: Hold['status']
  expires_at: Date
}

/** What the tables say of these accounts; of one that is in none of them, that there is nothing. */
export async function statesOf(
  client: ClientBase,
  ids: readonly string[],
): Promise<Map<string, AccountState>> {
  const text = `select wanted.id as wanted, a.*,
      (select coalesce(sum(amount), 0) from ledger.holds h
        where h.account_id = wanted.id and h.status = 'active')::text as held_by_holds,
      (select coalesce(sum(amount), 0) from ledger.entries e
        where e.account_id = wanted.id)::text as balance_by_entries
    from unnest($1::text[]) as wanted(id) left join ledger.accounts a on a.id = wanted.id`
  const { rows } = await client.query<StateRow>(text, [ids])
  const holds = await client.query<HoldRow>(
    'select * from ledger.holds where account_id = any($1) order by id',
    [ids],
  )
  const holdsOf = Map.groupBy(holds.rows, (row) => row.account_id)
  return new Map(
    rows.map((row) => [
      row.wanted,
      {
        account: row.id === null ? null : accountOf(row, row.id),
        holds: new Map((holdsOf.get(row.wanted) ?? []).map((own) => [own.id, holdOf(own)])),
        heldByHolds: BigInt(row.held_by_holds),
        balanceByEntries: BigInt(row.balance_by_entries),
      },
    ]),
  )
}

function accountOf(row: StateRow, id: string): Account {
  return {
    id,
    owner: row.owner,
    currency: row.currency,
    exponent: row.exponent,
    type: row.type,
    status: row.status,
    freeze: row.frozen,
    ledgerBalance: BigInt(row.ledger_balance),
    held: BigInt(row.held),
    overdraftLimit: BigInt(row.overdraft_limit),
    metadata: row.metadata,
    version: Number(row.version),
    openedAt: row.opened_at.toISOString(),
    asOf: row.as_of.toISOString(),
  }
}

function holdOf({ id, account_id, amount, status, expires_at }: HoldRow): Hold {
  const expiresAt = expires_at.toISOString()
  return { id, accountId: account_id, amount: BigInt(amount), status, expiresAt }
}

/** Accounts of which the tables tell, and no event does. */
export async function strangers(client: ClientBase): Promise<Divergence | null> {
  const { rows } = await client.query<{ id: string }>(
    `select id from (
       select id from ledger.accounts
       union select account_id from ledger.holds
       union select account_id from ledger.entries where account_version is not null) known
     where not exists (select from ledger.account_events e where e.account_id = known.id)
     order by id limit 1`,
  )
  const id = rows[0]?.id
  return id === undefined ? null : diverged('account_is_fold', id, ['events', 'none'])
}

/** The first reversal that is no event's, or the first event of one that is not kept as it says. */
export async function reversals(client: ClientBase): Promise<Divergence | null> {
  const { rows } = await client.query<Record<'at' | 'expected' | 'found', string | null>>(
    `select 'transaction ' || coalesce(e.reversed, r.transaction_id::text) as at,
       e.by as expected, r.reversed_by::text as found
     from (select distinct payload ->> 'reversedTransactionId' as reversed,
         payload ->> 'transactionId' as by
       from ledger.account_events where type like 'TransactionReversed.v%') e
     full join ledger.reversals r on r.transaction_id::text = e.reversed
     where e.by is distinct from r.reversed_by::text order by 1 limit 1`,
  )
  const first = rows[0]
  if (first === undefined) return null
  return diverged('reversal_is_fold', first.at ?? '', [first.expected, first.found])
}

/** The first transaction whose entries do not sum to zero in each currency; so do those of all. */
export async function unbalanced(client: ClientBase): Promise<Divergence | null> {
  const { rows } = await client.query<{ at: string; sum: string }>(
    `select format('transaction %s in %s', transaction_id, currency) as at, sum(amount)::text as sum
     from ledger.entries group by transaction_id, currency having sum(amount) <> 0
     order by 1 limit 1`,
  )
  const first = rows[0]
  return first === undefined ? null : diverged('entries_sum_to_zero', first.at, ['0', first.sum])
}
