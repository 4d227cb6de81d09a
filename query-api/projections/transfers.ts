import type { AccountEventPayload } from 'command-api/events'
import { nothingCarried, withOwnHeads } from '../own-heads.ts'
import type { ProjectedEvent, Projection } from '../projection.ts'
import type { Transaction } from '../transaction.ts'

// The projection `transfers`: both halves of each transfer. They are events of two accounts in two
// partitions, so each half has a row of its own and the two are joined by whoever reads: no order
// between them matters, and no transaction waits for another's.

export const transfers: Projection = withOwnHeads({
  name: 'transfers',
  carried: nothingCarried,
  fold(transaction, changes) {
    const events = changes.flatMap((change) => change.events)
    insertHalves(transaction, events.flatMap(halfOf))
    noteReversals(transaction, events.flatMap(reversalOf))
  },
  async forget(transaction, account) {
    await transaction.query('delete from read.transfer_halves where account_id = $1', [account])
  },
})

type Half = {
  side: 'from' | 'to'
  version: number
  at: string
  payload: AccountEventPayload<'FundsTransferredOut.v1'>
}

function halfOf({ version, event }: ProjectedEvent): Half[] {
  const { type, at, payload } = event
  if (type === 'FundsTransferredOut.v1') return [{ side: 'from', version, at, payload }]
  return type === 'FundsTransferredIn.v1' ? [{ side: 'to', version, at, payload }] : []
}

type Reversal = { at: string; payload: AccountEventPayload<'TransactionReversed.v1'> }

/** Of any transaction: one that was no transfer has no rows here. */
function reversalOf({ event: { type, at, payload } }: ProjectedEvent): Reversal[] {
  return type === 'TransactionReversed.v1' ? [{ at, payload }] : []
}

function insertHalves(transaction: Transaction, halves: readonly Half[]): void {
  if (halves.length === 0) return
  transaction.send({
    name: 'transfers-insert',
    text: `insert into read.transfer_halves (transfer_id, side, account_id, counterparty_id,
        transaction_id, amount, currency, reference, effective_at, version, recorded_at)
      select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[],
        $6::bigint[], $7::text[], $8::text[], $9::timestamptz[], $10::bigint[], $11::timestamptz[])`,
    values: [
      halves.map(({ payload }) => payload.transferId),
      halves.map(({ side }) => side),
      halves.map(({ payload }) => payload.accountId),
      halves.map(({ payload }) => payload.counterpartyId),
      halves.map(({ payload }) => payload.transactionId),
      halves.map(({ payload }) => payload.amount),
      halves.map(({ payload }) => payload.currency),
      halves.map(({ payload }) => payload.reference),
      halves.map(({ payload }) => payload.effectiveAt),
      halves.map(({ version }) => version),
      halves.map(({ at }) => at),
    ],
  })
}

/** An account's reversal comes after its half, in the same stream. */
function noteReversals(transaction: Transaction, reversals: readonly Reversal[]): void {
  if (reversals.length === 0) return
  transaction.send({
    name: 'transfers-reverse',
    text: `update read.transfer_halves h set reversed_by = n.reversed_by, reversed_at = n.at
      from unnest($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[])
        as n(account_id, transaction_id, reversed_by, at)
      where h.account_id = n.account_id and h.transaction_id = n.transaction_id`,
    values: [
      reversals.map(({ payload }) => payload.accountId),
      reversals.map(({ payload }) => payload.reversedTransactionId),
      reversals.map(({ payload }) => payload.transactionId),
      reversals.map(({ at }) => at),
    ],
  })
}
