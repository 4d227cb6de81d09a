import type { Finding } from './findings.ts'
import type { LedgerEvent, LedgerHold } from './tables.ts'

// I6, of holds and reversals: each hold is placed once and ends once at most, with its whole amount
// accounted for, no sooner than its time where the timer ended it; a transaction is moved back once.

type Payload = {
  holdId?: string
  amount?: string
  released?: string
  expiresAt?: string
  reversedTransactionId?: string
}

type Known = { account: string; amount: bigint; expiresAt: string; status: string }

const ends: Record<string, string> = {
  'HoldCaptured.v1': 'captured',
  'HoldReleased.v1': 'released',
  'HoldExpired.v1': 'expired',
}

/** `events` by account, then version: a hold's own are of one account, in their order. */
export function checkHolds(rows: readonly LedgerHold[], events: readonly LedgerEvent[]): Finding[] {
  const known = new Map<string, Known>()
  const reversed = new Set<string>()
  const wrong: string[] = []
  for (const event of events) {
    const payload = JSON.parse(event.payload) as Payload
    const name = `${event.account_id} version ${event.version}`
    if (event.type === 'HoldPlaced.v1') wrong.push(...placed(known, event, payload))
    else if (event.type in ends) wrong.push(...ended(known, event, payload))
    else if (event.type === 'TransactionReversed.v1') {
      const once = `${payload.reversedTransactionId} of ${event.account_id}`
      if (reversed.has(once)) wrong.push(`${name} reverses ${once} once more`)
      reversed.add(once)
    }
  }
  wrong.push(...differences(rows, known))
  return wrong.map((what) => ({ promise: 'I6', what }))
}

function placed(known: Map<string, Known>, event: LedgerEvent, payload: Payload): string[] {
  const { holdId = '', amount = '', expiresAt = '' } = payload
  if (known.has(holdId)) return [`hold ${holdId} was placed twice`]
  const account = event.account_id
  known.set(holdId, { account, amount: BigInt(amount), expiresAt, status: 'active' })
  return []
}

function ended(known: Map<string, Known>, event: LedgerEvent, payload: Payload): string[] {
  const { holdId = '', amount = '', released = '0' } = payload
  const hold = known.get(holdId)
  const status = ends[event.type] ?? ''
  if (hold?.account !== event.account_id)
    return [`hold ${holdId} ${status}, and never placed there`]
  const before = hold.status
  hold.status = status
  if (before !== 'active') return [`hold ${holdId} ${status} after it was ${before}`]
  if (BigInt(amount) + BigInt(released) !== hold.amount) {
    return [`hold ${holdId} of ${hold.amount} ended with ${amount} and ${released}`]
  }
  const late = new Date(event.time) >= new Date(hold.expiresAt)
  if (status === 'expired' && !late) return [`hold ${holdId} expired before its time`]
  if (status === 'captured' && late) return [`hold ${holdId} was captured after its time`]
  return []
}

function differences(rows: readonly LedgerHold[], known: ReadonlyMap<string, Known>): string[] {
  const told = new Map(known)
  const wrong = rows.flatMap(({ id, account_id: account, amount, status }) => {
    const hold = told.get(id)
    told.delete(id)
    const same =
      hold?.account === account && String(hold.amount) === amount && hold.status === status
    return same ? [] : [`hold ${id}: ${status}, its events say ${hold?.status ?? 'nothing'}`]
  })
  return [...wrong, ...[...told.keys()].map((id) => `hold ${id} has events and no row`)]
}
