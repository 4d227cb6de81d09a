import { catalogue } from 'service/problem'

/** Every refusal that the command API adds to those of any HTTP service. Codes never change. */
export const problem = catalogue({
  idempotency_key_missing: { status: 400, title: 'Idempotency-Key is required on every command' },
  unsupported_currency: { status: 409, title: 'The currency is not one that ISO 4217 lists' },
  account_not_found: { status: 404, title: 'There is no such account' },
  account_id_taken: { status: 409, title: 'An account with this id exists' },
  account_closed: { status: 409, title: 'The account is closed' },
  currency_mismatch: { status: 409, title: "The currency is not the account's" },
  insufficient_funds: { status: 409, title: 'The account has less than the amount available' },
  balance_limit_exceeded: { status: 409, title: 'The balance would be more than 18 digits' },
  balance_not_zero: { status: 409, title: 'An account is closed only at a balance of zero' },
  active_holds: { status: 409, title: 'The account has active holds' },
  idempotency_in_progress: { status: 409, title: 'The same key is being worked on' },
  version_conflict: { status: 412, title: 'The account has another version' },
  idempotency_key_reused: { status: 422, title: 'The key was used for another request' },
  precondition_required: { status: 428, title: 'If-Match is required' },
  invalid_cursor: { status: 400, title: 'The cursor is not one that this feed gave' },
  overloaded: { status: 503, title: 'Too many commands are waiting' },
  database_unavailable: {
    status: 503,
    title: 'The outcome is not known: repeat with the same key',
  },
})
