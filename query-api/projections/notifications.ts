import { type Notification, queueNotifications } from '../notifications/queue.ts'
import { nothingCarried, withOwnHeads } from '../own-heads.ts'
import type { ProjectedEvent, Projection } from '../projection.ts'

// The projection `notifications`: a sample of a consumer that does something instead of keeping
// something. Only what the log brings is told of: a repair or a rebuild reads history again, and
// nobody wants to hear of that.

/** In minor units of whatever currency. */
const largeFromMinor = 1_000_000n

export const notifications: Projection = withOwnHeads({
  name: 'notifications',
  carried: nothingCarried,
  fold(transaction, changes, { origin }) {
    if (origin !== 'log') return
    queueNotifications(
      transaction,
      changes.flatMap(({ events }) => events.flatMap(notificationOf)),
    )
  },
  // What is queued stays: it happened, and was not told yet.
  forget() {},
})

function notificationOf({ account, version, event }: ProjectedEvent): Notification[] {
  const { type, at, payload } = event
  if (type === 'AccountClosed.v1')
    return [{ kind: 'account_closed', account, version, at, body: {} }]
  if (type !== 'FundsWithdrawn.v1' && type !== 'FundsTransferredOut.v1') return []
  const { amount, currency, transactionId } = payload
  if (BigInt(amount) < largeFromMinor) return []
  const body = { amount, currency, transactionId }
  return [{ kind: 'large_withdrawal', account, version, at, body }]
}
