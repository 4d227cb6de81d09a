import type { Pool } from 'pg'
import { databaseFault } from '../database-fault.ts'
import { isAccountId } from '../event-record.ts'
import type { Projection } from '../projection.ts'
import { inTransaction, type Transaction } from '../transaction.ts'
import { type Entry, findEntry, noteProblem, removeEntry } from './entries.ts'
import { applyStored, type Problem } from './feed-events.ts'
import { type Feed, FeedUnavailable } from './feed.ts'

// The repair of one account. Invariants:
// 1. What is applied comes from the feed, through the same guard and `apply` as everything else.
// 2. The account is released under its entry's lock, and only at or above the highest version seen:
//    an event that came during the repair, and no other after it, would else be missing for ever.
// 3. A history that contradicts the feed is replaced as a whole, from version 1, in one transaction;
//    when that does not reach the highest version seen, what was there stays.
// 4. The entry's lock is held for the last step only: a chunk of the same partition may need it.

export type RepairOutcome =
  | { kind: 'released'; applied: number; restored: boolean; version: number }
  /** Still in quarantine, and why. */
  | { kind: 'waits'; problem: Problem }
  /** Another process is at it, or has released it. */
  | { kind: 'gone' }

export type RepairSettings = {
  pool: Pool
  projection: Projection
  feed: Feed
  /** Ends a repair under way: it is rolled back. */
  signal: AbortSignal
}

const deadlineMs = 120_000
/** A million events: what one transaction should be asked to rebuild at most. */
const pageLimit = 1_000

/** Rolls the repair back; the account stays as it was. */
class NotYet extends Error {
  readonly code = 'not_repaired'
  readonly problem: Problem

  constructor(problem: Problem) {
    super(problem.detail)
    this.problem = problem
  }
}

/** One attempt. Throws what Postgres throws when it is away. */
export async function repairAccount(
  settings: RepairSettings,
  account: string,
): Promise<RepairOutcome> {
  const { pool, projection } = settings
  const place = { projection: projection.name, account }
  try {
    const outcome = await attempt(settings, account)
    if (outcome.kind === 'waits') await noteProblem(pool, place, outcome.problem)
    return outcome
  } catch (error) {
    const problem = problemOf(error)
    if (problem === undefined) throw error
    await noteProblem(pool, place, problem)
    return { kind: 'waits', problem }
  }
}

function problemOf(error: unknown): Problem | undefined {
  if (error instanceof NotYet) return error.problem
  if (error instanceof FeedUnavailable) return { code: error.code, detail: error.message }
  if (databaseFault(error) !== 'data') return undefined
  const state = (error as { code?: string }).code
  return { code: 'apply_failed', detail: `the account cannot be stored: SQLSTATE ${state}` }
}

async function attempt(settings: RepairSettings, account: string): Promise<RepairOutcome> {
  const { pool, projection, feed, signal } = settings
  const entry = await findEntry(pool, { projection: projection.name, account, lock: false })
  if (entry === undefined) return { kind: 'gone' }
  if (!isAccountId(account)) return withoutAccount(settings, entry)
  const restored = entry.code === 'version_conflict'
  const head = (await projection.heads(pool, [account])).get(account)
  // From the last version on that is here: the guard then sees whether it is the same event.
  const from = restored || head === undefined ? 1 : head.version
  // Asked before the transaction, so that a feed that is away holds no locks.
  const first = await feed.accountEvents(account, from, signal)
  return inTransaction(pool, deadlineMs, async (transaction) => {
    if (!(await isAlone(transaction, projection.name, account))) return { kind: 'gone' }
    if (restored) await projection.forget(transaction, account)
    let page = first
    let applied = 0
    let fedTo = 0
    for (let pages = 1; ; pages += 1) {
      const { skipThrough } = entry
      const isLast = page.next === null
      const done = await applyStored(projection, transaction, page.events, { skipThrough, isLast })
      applied += done.applied
      fedTo = page.events.at(-1)?.version ?? fedTo
      if (done.problem !== undefined) return halted(done.problem, { restored })
      if (page.next === null) break
      if (pages === pageLimit) throw new NotYet(tooLong(account))
      signal.throwIfAborted()
      page = await feed.accountEvents(account, page.next, signal)
    }
    return release(settings, transaction, { entry, restored, applied, fedTo })
  })
}

/** What was applied before the problem may stay, but not half of a history. */
function halted(problem: Problem, { restored }: { restored: boolean }): RepairOutcome {
  if (restored || problem.undo === true) throw new NotYet(problem)
  return { kind: 'waits', problem }
}

/** `entry` is as it was before the repair. */
type Repaired = { entry: Entry; restored: boolean; applied: number; fedTo: number }

async function release(
  { projection }: RepairSettings,
  transaction: Transaction,
  { entry: before, restored, applied, fedTo }: Repaired,
): Promise<RepairOutcome> {
  const { account } = before
  const entry = await findEntry(transaction, { projection: projection.name, account, lock: true })
  if (entry === undefined) throw new NotYet(overtaken)
  const version = (await projection.heads(transaction, [account])).get(account)?.version ?? 0
  const skipped = entry.skipThrough !== null
  if (fedTo === 0 && !skipped) throw new NotYet(unknownToFeed(account))
  if (version < entry.highest) {
    const problem = feedBehind(account, { fedTo, highest: entry.highest })
    // Seen while this ran: the feed has it by now.
    if (entry.highest > before.highest) problem.soon = true
    if (restored) throw new NotYet(problem)
    return { kind: 'waits', problem }
  }
  await removeEntry(transaction, projection.name, account)
  return { kind: 'released', applied, restored, version }
}

/** A record that does not say whose it is: only a person can tell that nothing is missing. */
async function withoutAccount(
  { pool, projection }: RepairSettings,
  { account, skipThrough }: Entry,
): Promise<RepairOutcome> {
  if (skipThrough === null) return { kind: 'waits', problem: noAccount }
  await removeEntry(pool, projection.name, account)
  return { kind: 'released', applied: 0, restored: false, version: 0 }
}

/** Of several processes one repairs an account at a time; the lock ends with the transaction. */
async function isAlone(
  transaction: Transaction,
  projection: string,
  account: string,
): Promise<boolean> {
  const { rows } = await transaction.query<{ alone: boolean }>(
    'select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as alone',
    [`${projection}/${account}`],
  )
  return rows[0]?.alone === true
}

const overtaken: Problem = { code: 'released_elsewhere', detail: 'another repair has released it' }

const noAccount: Problem = {
  code: 'no_account',
  detail: 'the record does not say whose it is: look at it, then skip it with a reason',
}

const tooLong = (account: string): Problem => ({
  code: 'history_too_long',
  detail: `account ${account} has more events than one transaction can rebuild`,
})

const unknownToFeed = (account: string): Problem => ({
  code: 'unknown_to_feed',
  detail: `the feed does not know account ${account} as far as it is stored here`,
})

const feedBehind = (
  account: string,
  { fedTo, highest }: { fedTo: number; highest: number },
): Problem => ({
  code: 'feed_behind',
  detail: `version ${highest} of account ${account} was seen, and the feed ends at ${fedTo}`,
})
