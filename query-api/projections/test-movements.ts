// Histories with movements of every kind and both clocks, as command-api would have written them.
import { randomUUID } from 'node:crypto'
import type { ProjectedEvent } from '../projection.ts'
import { eventRow, outboxRow, projected } from '../test-events.ts'

const types = {
  deposit: 'FundsDeposited.v1',
  withdrawal: 'FundsWithdrawn.v1',
  force_debit: 'FundsForceDebited.v1',
  transfer_out: 'FundsTransferredOut.v1',
  transfer_in: 'FundsTransferredIn.v1',
  hold_capture: 'HoldCaptured.v1',
  reversal: 'TransactionReversed.v1',
} as const

export type Step = {
  /** `freeze` moves nothing. */
  kind: keyof typeof types | 'freeze'
  /** Credits are positive; of a kind that can only be a debit the sign says nothing. */
  amount: bigint
  at: Date
  /** As recorded by default. */
  effectiveAt?: Date | undefined
  reference?: string | null
}

const credits = new Set(['deposit', 'transfer_in'])

/** What a step does to the balance. */
export function signedAmount({ kind, amount }: Step): bigint {
  if (kind === 'freeze') return 0n
  if (kind === 'reversal') return amount
  const size = amount < 0n ? -amount : amount
  return credits.has(kind) ? size : -size
}

/** Version 1 opens the account; then one event a step. */
export function historyFrom(account: string, steps: readonly Step[]): ProjectedEvent[] {
  let balance = 0n
  const rows = steps.map((step, index) => {
    balance += signedAmount(step)
    return stepRow(account, index + 2, { ...step, balance })
  })
  return [eventRow(account, 1), ...rows].map(projected)
}

function stepRow(account: string, version: number, step: Step & { balance: bigint }) {
  const { kind, amount, effectiveAt, reference = null } = step
  const at = step.at.toISOString().replace('Z', '000Z')
  const ledgerBalance = String(step.balance)
  const after = { version, ledgerBalance, held: '0', available: ledgerBalance, status: 'open' }
  const shared = { accountId: account, after }
  if (kind === 'freeze') {
    const payload = { ...shared, scope: 'debits', reason: 'as asked' }
    return outboxRow({ account, version, type: 'AccountFrozen.v1', at, payload })
  }
  const movement = {
    ...shared,
    transactionId: randomUUID(),
    amount: String(amount < 0n ? -amount : amount),
    currency: 'EUR',
    reference,
    effectiveAt: (effectiveAt ?? step.at).toISOString(),
  }
  const own = {
    deposit: {},
    withdrawal: {},
    force_debit: { reason: 'as decided' },
    transfer_out: { transferId: randomUUID(), counterpartyId: '-other' },
    transfer_in: { transferId: randomUUID(), counterpartyId: '-other' },
    hold_capture: { holdId: randomUUID(), released: '0' },
    reversal: {
      reversedTransactionId: randomUUID(),
      direction: amount < 0n ? 'debit' : 'credit',
      counterpartyId: null,
    },
  }[kind]
  return outboxRow({ account, version, type: types[kind], at, payload: { ...movement, ...own } })
}
