import { z } from 'zod'
import { amount, amountOrZero, balance, currencyCode } from './money.ts'

// What each event means. A type and its version name one schema for ever: stored events are never
// rewritten, so a change of meaning or shape is a new version beside the old one.

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

/** Every type as JSON Schema, which a golden test holds as it is. */
export const eventSchemas = (): Record<AccountEventType, unknown> =>
  Object.fromEntries(
    Object.entries(schemas).map(([type, schema]) => [type, z.toJSONSchema(schema)]),
  ) as Record<AccountEventType, unknown>

type Schemas = typeof schemas
export type AccountEventType = keyof Schemas
export type AccountEventPayload<Type extends AccountEventType> = z.output<Schemas[Type]>

/** One thing that happened to one account. `at` is when it was recorded, RFC 3339 in UTC. */
export type AccountEvent = {
  [Type in AccountEventType]: { type: Type; at: string; payload: AccountEventPayload<Type> }
}[AccountEventType]

/** An event that this version of the code cannot read: its consumer must stop, not guess. */
export class EventUnreadable extends Error {
  readonly code: 'unknown_event_type' | 'event_malformed'

  constructor(code: EventUnreadable['code'], message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'EventUnreadable'
    this.code = code
  }
}

/** Parses a stored or received event. Throws EventUnreadable. */
export function parseAccountEvent(type: string, at: string, payload: string): AccountEvent {
  if (!Object.hasOwn(schemas, type)) {
    throw new EventUnreadable('unknown_event_type', `no schema for the event type ${type}`)
  }
  const schema = schemas[type as AccountEventType]
  try {
    return { type, at, payload: schema.parse(JSON.parse(payload)) } as AccountEvent
  } catch (error) {
    throw new EventUnreadable('event_malformed', `${type} is not as its schema says`, error)
  }
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
