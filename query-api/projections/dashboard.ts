import { withOwnHeads } from '../own-heads.ts'
import type { ProjectedEvent, Projection } from '../projection.ts'
import { newestAt, Tally, type TallyTable } from '../tally.ts'
import type { Transaction } from '../transaction.ts'

// The projection `dashboard`: how many movements there are per second and per minute, by the time
// at which they were recorded. All else that the dashboard shows is in `totals` and `tiers`. A
// transfer is two movements, one on each account.

/** How long a bucket is, and how many complete ones are shown. */
export const spans = [
  { seconds: 1, shown: 60 },
  { seconds: 60, shown: 60 },
] as const

/** `recent`: the account's buckets, as JSON. */
type State = { recent: string }
/** How long it is, when it starts (seconds since 1970), and the movements in it. */
type Bucket = [seconds: number, start: number, movements: number]

const tallies: TallyTable = {
  table: 'read.dashboard_tallies',
  keys: { seconds: 'int', starts_at: 'timestamptz' },
  sums: ['movements', 'events'],
}
/** The row of all events. */
const everything = ['0', timeOf(0)]

export const dashboard = dashboardAt(Date.now)

export function dashboardAt(nowMs: () => number): Projection {
  return withOwnHeads<State>({
    name: 'dashboard',
    carried: {
      columns: { recent: 'jsonb' },
      after: (before, events) => stateAfter(before, events, nowMs()),
    },
    fold(transaction, changes) {
      const tally = new Tally(tallies)
      for (const { events } of changes) add(tally, events, nowMs())
      tally.send(transaction)
      prune(transaction, nowMs())
    },
    forget(transaction, _account, { recent }) {
      const tally = new Tally(tallies)
      for (const [seconds, start, movements] of bucketsIn(recent)) {
        tally.add([String(seconds), timeOf(start)], [-BigInt(movements), 0n])
      }
      tally.send(transaction)
    },
  })
}

function add(tally: Tally, events: readonly ProjectedEvent[], nowMs: number): void {
  tally.add(everything, [0n, BigInt(events.length)], newestAt(events))
  for (const [seconds, start, movements] of shown(bucketsOf(events), nowMs)) {
    tally.add([String(seconds), timeOf(start)], [BigInt(movements), 0n])
  }
}

function stateAfter(
  before: State | undefined,
  events: readonly ProjectedEvent[],
  nowMs: number,
): State {
  const buckets = new Map<string, Bucket>()
  const old = before === undefined ? [] : bucketsIn(before.recent)
  for (const [seconds, start, movements] of shown([...old, ...bucketsOf(events)], nowMs)) {
    const key = `${seconds} ${start}`
    buckets.set(key, [seconds, start, movements + (buckets.get(key)?.[2] ?? 0)])
  }
  return { recent: JSON.stringify([...buckets.values()]) }
}

const bucketsIn = (recent: string) => JSON.parse(recent) as Bucket[]

/** One for each movement and span. */
function bucketsOf(events: readonly ProjectedEvent[]): Bucket[] {
  return events.filter(isMovement).flatMap(({ event }) => {
    const second = Math.floor(Date.parse(event.at) / 1_000)
    return spans.map(({ seconds }): Bucket => [seconds, second - (second % seconds), 1])
  })
}

function isMovement({ event }: ProjectedEvent): boolean {
  return 'transactionId' in event.payload
}

/** Those that are still shown, or will be; a rebuild brings years of others. */
function shown(buckets: readonly Bucket[], nowMs: number): Bucket[] {
  const oldest = oldestStarts(nowMs)
  return buckets.filter(([seconds, start]) => start >= oldest.get(seconds)!)
}

/** By span: when the oldest bucket starts that is kept. Some more are than are shown. */
function oldestStarts(nowMs: number): Map<number, number> {
  return new Map(
    spans.map(({ seconds, shown: count }) => [seconds, nowMs / 1_000 - seconds * (count + 5)]),
  )
}

/** Rows that another transaction is at are left to it, so that nobody waits. */
function prune(transaction: Transaction, nowMs: number): void {
  const oldest = oldestStarts(nowMs)
  transaction.send({
    name: 'dashboard-prune',
    text: `delete from read.dashboard_tallies where (slot, seconds, starts_at) in (
        select slot, seconds, starts_at from read.dashboard_tallies
        join unnest($1::int[], $2::timestamptz[]) as kept(seconds, since) using (seconds)
        where starts_at < since for update of dashboard_tallies skip locked)`,
    values: [[...oldest.keys()], [...oldest.values()].map(timeOf)],
  })
}

function timeOf(seconds: number): string {
  return new Date(seconds * 1_000).toISOString()
}
