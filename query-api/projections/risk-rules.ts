import type { AccountEvent } from 'command-api/events'
import type { ProjectedEvent } from '../projection.ts'

// The rules of the projection `risk`. Each looks at one account's events, in their order and at their
// own times, and at nothing else: no clock, no other account. So the same events raise the same flags
// however often and whenever they are read.

export const rules = {
  /** So many withdrawals within so many minutes. */
  velocity: { withdrawals: 5, minutes: 10 },
  /** After so many withdrawals, one that lies so many standard deviations above their mean, and is
   * so many times the mean: of equal amounts the deviation is nothing. */
  outlier: { earlier: 10, deviations: 3n, times: 3n },
  /** Within so many hours of its opening, at most a part (one in so many) of its highest balance left. */
  emptied: { hours: 24, part: 20n },
} as const

/** An event that a flag rests on. */
export type Witness = { version: number; id: string; type: string; at: string }

export type Flag = {
  account: string
  /** Of the event that raised it, which is the last of `events`. */
  version: number
  kind: 'velocity' | 'outlier' | 'emptied'
  at: string
  detail: string
  events: Witness[]
}

/** What is kept of an account. Amounts are minor units as digits: sums of squares are large. */
export type History = {
  opened: Witness | null
  highest: { balance: string; witness: Witness } | null
  /** The latest withdrawals, as many as `velocity` counts. */
  recent: Witness[]
  /** All of them. */
  count: number
  sum: string
  squares: string
  /** When `velocity` last raised a flag. */
  hurriedAt: string | null
  emptied: boolean
}

export const noHistory: History = {
  opened: null,
  highest: null,
  recent: [],
  count: 0,
  sum: '0',
  squares: '0',
  hurriedAt: null,
  emptied: false,
}

/** What one more event of an account makes of its history, and the flags that it raises. */
export function assess(
  history: History,
  event: ProjectedEvent,
): { history: History; flags: readonly Flag[] } {
  const { version, id } = event
  const { type, at, payload } = event.event
  const witness: Witness = { version, id, type, at }
  const after = { ...history }
  if (type === 'AccountOpened.v1') after.opened = witness
  const amount = withdrawnBy(event.event)
  const flags: Flag[] = []
  if (amount !== undefined) {
    after.recent = [...history.recent, witness].slice(-rules.velocity.withdrawals)
    const found = [
      velocity(after),
      outlier(history, amount, witness),
      emptied(history, BigInt(payload.after.ledgerBalance), witness),
    ]
    for (const each of found) {
      if (each !== undefined) flags.push({ account: event.account, version, at, ...each })
    }
    if (flags.some(({ kind }) => kind === 'velocity')) after.hurriedAt = at
    if (flags.some(({ kind }) => kind === 'emptied')) after.emptied = true
    after.count += 1
    after.sum = String(BigInt(history.sum) + amount)
    after.squares = String(BigInt(history.squares) + amount * amount)
  }
  const balance = BigInt(payload.after.ledgerBalance)
  if (balance > BigInt(history.highest?.balance ?? 0)) {
    after.highest = { balance: String(balance), witness }
  }
  return { history: after, flags }
}

/** Money that leaves by its owner's wish; what is reversed or forced is somebody else's. */
function withdrawnBy({ type, payload }: AccountEvent): bigint | undefined {
  const owned =
    type === 'FundsWithdrawn.v1' || type === 'FundsTransferredOut.v1' || type === 'HoldCaptured.v1'
  return owned ? BigInt(payload.amount) : undefined
}

type Found = Pick<Flag, 'kind' | 'detail' | 'events'> | undefined

/** Once for one burst: after a flag, only a burst that begins behind it raises another. */
function velocity({ recent, hurriedAt }: History): Found {
  const { withdrawals, minutes } = rules.velocity
  const [first] = recent
  const last = recent.at(-1)
  if (first === undefined || last === undefined || recent.length < withdrawals) return undefined
  if (millisBetween(first.at, last.at) > minutes * 60_000) return undefined
  if (hurriedAt !== null && millisBetween(hurriedAt, first.at) <= 0) return undefined
  const detail = `${withdrawals} withdrawals within ${minutes} minutes`
  return { kind: 'velocity', detail, events: recent }
}

/** In whole numbers: a quotient or a root would be rounded. */
function outlier({ count, sum, squares }: History, amount: bigint, witness: Witness): Found {
  const { earlier, deviations, times } = rules.outlier
  if (count < earlier) return undefined
  const n = BigInt(count)
  const above = amount * n - BigInt(sum)
  const variance = n * BigInt(squares) - BigInt(sum) * BigInt(sum)
  const far = above > 0n && above * above > deviations * deviations * variance
  if (!far || amount * n < times * BigInt(sum)) return undefined
  const detail = `more than ${deviations} standard deviations above ${count} earlier withdrawals`
  return { kind: 'outlier', detail, events: [witness] }
}

/** Once for an account. */
function emptied({ opened, highest, ...history }: History, left: bigint, witness: Witness): Found {
  const { hours, part } = rules.emptied
  if (opened === null || highest === null || history.emptied) return undefined
  if (millisBetween(opened.at, witness.at) > hours * 3_600_000) return undefined
  if (left * part > BigInt(highest.balance)) return undefined
  const detail = `emptied within ${hours} hours of its opening`
  // An account may open with its highest balance.
  const before = highest.witness.version === opened.version ? [opened] : [opened, highest.witness]
  return { kind: 'emptied', detail, events: [...before, witness] }
}

function millisBetween(from: string, to: string): number {
  return Date.parse(to) - Date.parse(from)
}
