import { z } from 'zod'
import { eventReader, type Upcasters } from './event-reader.ts'
import { amount, amountOrZero, balance, currencyCode } from './money.ts'

// What each event means. A type and its version name one schema for ever: stored events are never
// rewritten, so a change of meaning or shape is a new version beside the old one, and an upcaster that
// takes the old one up to it.

export { EventUnreadable } from './event-reader.ts'

const moment = z.iso.datetime({ offset: false })

/** The account after the event, so that a consumer needs no replay to know the present. */
const stateAfter = z.strictObject({
  version: z.int().positive(),
  ledgerBalance: balance,
  held: amountOrZero,
  available: balance,
  status: z.enum(['open', 'closed']),
})

const accountId = z.string()
const reason = z.string()

const movementFields = {
  accountId,
  transactionId: z.uuid(),
  amount,
  currency: currencyCode,
  reference: z.string().nullable(),
  effectiveAt: moment,
}

const movement = z.strictObject({ ...movementFields, after: stateAfter })

/** One half of a transfer; the other, of the same transaction, is the counterparty's. */
const transferHalf = z.strictObject({
  ...movementFields,
  transferId: z.uuid(),
  counterpartyId: accountId,
  after: stateAfter,
})

/** A hold that ended without a movement: its whole amount is available again. */
const holdEnded = z.strictObject({
  accountId,
  holdId: z.uuid(),
  amount,
  currency: currencyCode,
  after: stateAfter,
})

const schemas = {
  'AccountOpened.v1': z.strictObject({
    accountId,
    owner: z.string(),
    currency: currencyCode,
    exponent: z.int().min(0).max(4),
    type: z.enum(['current', 'savings']),
    overdraftLimit: amountOrZero,
    metadata: z.record(z.string(), z.unknown()),
    after: stateAfter,
  }),
  'FundsDeposited.v1': movement,
  'FundsWithdrawn.v1': movement,
  'FundsForceDebited.v1': z.strictObject({ ...movementFields, reason, after: stateAfter }),
  'FundsTransferredOut.v1': transferHalf,
  'FundsTransferredIn.v1': transferHalf,
  'HoldPlaced.v1': z.strictObject({
    accountId,
    holdId: z.uuid(),
    amount,
    currency: currencyCode,
    reference: z.string().nullable(),
    expiresAt: moment,
    after: stateAfter,
  }),
  // `amount` leaves the account; `released`, the rest of the hold, is available again.
  'HoldCaptured.v1': z.strictObject({
    ...movementFields,
    holdId: z.uuid(),
    released: amountOrZero,
    after: stateAfter,
  }),
  'HoldReleased.v1': holdEnded,
  'HoldExpired.v1': holdEnded,
  'AccountFrozen.v1': z.strictObject({
    accountId,
    scope: z.enum(['all', 'debits', 'credits']),
    reason,
    after: stateAfter,
  }),
  'AccountUnfrozen.v1': z.strictObject({
    accountId,
    reason: reason.nullable(),
    after: stateAfter,
  }),
  'OverdraftLimitChanged.v1': z.strictObject({
    accountId,
    overdraftLimit: amountOrZero,
    previousLimit: amountOrZero,
    after: stateAfter,
  }),
  // A transaction of its own, which moves back what the reversed one moved on this account. Where
  // that one was between two accounts, the counterparty has the other half; else it is null.
  'TransactionReversed.v1': z.strictObject({
    ...movementFields,
    reversedTransactionId: z.uuid(),
    direction: z.enum(['credit', 'debit']),
    counterpartyId: accountId.nullable(),
    after: stateAfter,
  }),
  // Both as they are from now on, whichever of them changed.
  'AccountDetailsUpdated.v1': z.strictObject({
    accountId,
    owner: z.string(),
    metadata: z.record(z.string(), z.unknown()),
    after: stateAfter,
  }),
  'AccountClosed.v1': z.strictObject({ accountId, after: stateAfter }),
  'AccountReopened.v1': z.strictObject({ accountId, after: stateAfter }),
} as const

/** What makes each older version the next. A type here is only read, and never emitted again. */
const upcasters = {} as const satisfies Upcasters

/** Every type as JSON Schema, which a golden test holds as it is. */
export const eventSchemas = (): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(schemas).map(([type, schema]) => [type, z.toJSONSchema(schema)]),
  )

type Schemas = typeof schemas
export type AccountEventType = Exclude<keyof Schemas, keyof typeof upcasters>
export type AccountEventPayload<Type extends AccountEventType> = z.output<Schemas[Type]>

/** One thing that happened to one account. `at` is when it was recorded, RFC 3339 in UTC. */
export type AccountEvent = {
  [Type in AccountEventType]: { type: Type; at: string; payload: AccountEventPayload<Type> }
}[AccountEventType]

const read = eventReader(schemas, upcasters)

/** Parses a stored or received event, of whichever version. Throws EventUnreadable. */
export function parseAccountEvent(type: string, at: string, payload: string): AccountEvent {
  return { at, ...read(type, payload) } as AccountEvent
}

/** Proof that the pipe moves: written every second on reserved ids, seen by no account's stream. */
export const heartbeatType = 'Heartbeat.v1'

/**
 * One reserved id per partition of account-events (the default murmur2 over 12), in partition order,
 * so that each partition's silence shows.
 */
export const heartbeatIds: readonly string[] = [9, 0, 1, 26, 8, 3, 36, 20, 5, 25, 4, 46].map(
  (suffix) => `sluice-heartbeat-${suffix}`,
)
