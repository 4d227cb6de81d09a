import { catalogue } from 'service/problem'

/** Every refusal that the query API adds to those of any HTTP service. Codes never change. */
export const problem = catalogue({
  invalid_token: { status: 400, title: 'Consistency-Token is not one that a command gave' },
  invalid_cursor: { status: 400, title: 'The cursor is not one that this list gave' },
  account_not_found: { status: 404, title: 'There is no such account' },
  transfer_not_found: { status: 404, title: 'There is no such transfer' },
  account_not_closed: { status: 409, title: 'The account is not closed' },
  projection_not_found: { status: 404, title: 'There is no such projection' },
  not_in_quarantine: { status: 404, title: 'This account is not in quarantine' },
  partition_not_stopped: { status: 404, title: 'There is no such partition that stands still' },
  feed_missing: { status: 503, title: 'The command side cannot be asked' },
  projection_late: { status: 503, title: 'The write that the token names is not readable yet' },
  too_many_streams: { status: 503, title: 'Too many streams are open' },
  too_many_waiters: { status: 503, title: 'Too many reads are waiting for a write' },
})
