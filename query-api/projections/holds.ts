import type { AccountEventPayload } from 'command-api/events'
import { withOwnHeads } from '../own-heads.ts'
import type { ProjectedEvent, Projection } from '../projection.ts'
import type { Transaction } from '../transaction.ts'

// The projection `holds`: each hold of an account as it was placed, and how it ended.

export const holds: Projection = withOwnHeads({
  name: 'holds',
  carried: {
    columns: { as_of: 'timestamptz' },
    after: (_, events) => ({ as_of: events.at(-1)!.event.at }),
  },
  fold(transaction, changes) {
    const events = changes.flatMap((change) => change.events)
    insertPlaced(transaction, events.flatMap(placedBy))
    updateEnded(transaction, events.flatMap(endedBy))
  },
  async forget(transaction, account) {
    await transaction.query('delete from read.holds where account_id = $1', [account])
  },
})

type Placed = { version: number; at: string; payload: AccountEventPayload<'HoldPlaced.v1'> }

function placedBy({ version, event: { type, at, payload } }: ProjectedEvent): Placed[] {
  return type === 'HoldPlaced.v1' ? [{ version, at, payload }] : []
}

type Ended = {
  account: string
  hold: string
  version: number
  at: string
  status: 'captured' | 'released' | 'expired'
  captured: string | null
  transactionId: string | null
}

function endedBy({ account, version, event }: ProjectedEvent): Ended[] {
  const { type, at, payload } = event
  if (type === 'HoldCaptured.v1') {
    const { holdId: hold, amount: captured, transactionId } = payload
    return [{ account, hold, version, at, status: 'captured', captured, transactionId }]
  }
  if (type !== 'HoldReleased.v1' && type !== 'HoldExpired.v1') return []
  const status = type === 'HoldReleased.v1' ? 'released' : 'expired'
  const { holdId: hold } = payload
  return [{ account, hold, version, at, status, captured: null, transactionId: null }]
}

function insertPlaced(transaction: Transaction, placed: readonly Placed[]): void {
  if (placed.length === 0) return
  transaction.send({
    name: 'holds-insert',
    text: `insert into read.holds (id, account_id, amount, currency, reference, expires_at,
        placed_version, placed_at, status)
      select *, 'active' from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[],
        $6::timestamptz[], $7::bigint[], $8::timestamptz[])`,
    values: [
      placed.map(({ payload }) => payload.holdId),
      placed.map(({ payload }) => payload.accountId),
      placed.map(({ payload }) => payload.amount),
      placed.map(({ payload }) => payload.currency),
      placed.map(({ payload }) => payload.reference),
      placed.map(({ payload }) => payload.expiresAt),
      placed.map(({ version }) => version),
      placed.map(({ at }) => at),
    ],
  })
}

/** Sent behind the inserts: a hold may be placed and end within one batch. */
function updateEnded(transaction: Transaction, ended: readonly Ended[]): void {
  if (ended.length === 0) return
  transaction.send({
    name: 'holds-end',
    text: `update read.holds h set status = n.status, ended_version = n.version, ended_at = n.at,
        captured_amount = n.captured, transaction_id = n.transaction_id
      from unnest($1::text[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::text[],
        $6::bigint[], $7::uuid[])
        as n(account_id, id, version, at, status, captured, transaction_id)
      where h.account_id = n.account_id and h.id = n.id`,
    values: [
      ended.map(({ account }) => account),
      ended.map(({ hold }) => hold),
      ended.map(({ version }) => version),
      ended.map(({ at }) => at),
      ended.map(({ status }) => status),
      ended.map(({ captured }) => captured),
      ended.map(({ transactionId }) => transactionId),
    ],
  })
}
