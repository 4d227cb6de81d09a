import type { Pool } from 'pg'
import { backoffMs, pause } from 'service/backoff'
import type { Log } from 'service/log'
import { databaseFault } from '../database-fault.ts'
import type { Projection } from '../projection.ts'
import type { ProjectionStatus } from '../status.ts'
import { claimDue, countEntries, makeDue } from './entries.ts'
import type { Feed } from './feed.ts'
import { repairAccount, type RepairOutcome } from './repair.ts'

export const feedMissing =
  'set COMMAND_API_URL and COMMAND_API_KEY (an access key of the role service): ' +
  'without the feed, accounts in quarantine stay there'

export type RepairerSettings = {
  pool: Pool
  projection: Projection
  /** Without one, entries are only counted. */
  feed: Feed | undefined
  status: ProjectionStatus
  /** Ends attempts under way. */
  signal: AbortSignal
  log: Log
  /** How often it looks for entries that are due, unless woken. 1 s by default. */
  lookIntervalMs?: number
}

const claimed = 20
const failureBackoff = { firstMs: 500, capMs: 30_000 }

/** Repairs accounts in quarantine, one after another, each as often as it takes. */
export class Repairer {
  readonly feed: Feed | undefined
  readonly #settings: RepairerSettings
  #woken = new AbortController()
  #feedWasAway = false

  constructor(settings: RepairerSettings) {
    this.#settings = settings
    this.feed = settings.feed
    if (settings.feed === undefined) settings.status.quarantine.trouble = feedMissing
  }

  /** Looks at once: an account has just come into quarantine. */
  wake(): void {
    this.#woken.abort()
  }

  /** Runs until the signal aborts. Never throws: what it meets is logged, and it tries again. */
  async run(signal: AbortSignal): Promise<void> {
    const { log, status, lookIntervalMs = 1_000 } = this.#settings
    for (let failures = 0; !signal.aborted;) {
      this.#woken = new AbortController()
      let waitMs = lookIntervalMs
      try {
        if ((await this.#look(signal)) === claimed) waitMs = 0
        failures = 0
      } catch (error) {
        if (signal.aborted) return
        failures += 1
        waitMs = backoffMs(failures, failureBackoff)
        const level = databaseFault(error) === 'passing' && failures < 4 ? 'debug' : 'error'
        log[level](
          { event: 'repair_failed', projection: status.projection, failures, err: error },
          'the repair of accounts in quarantine failed and is tried again',
        )
      }
      await pause(waitMs, AbortSignal.any([signal, this.#woken.signal]))
    }
  }

  /** One attempt now; undefined without a feed. Throws what Postgres throws. */
  async attempt(account: string): Promise<RepairOutcome | undefined> {
    const { pool, projection, feed, signal, status } = this.#settings
    if (feed === undefined) return undefined
    const outcome = await repairAccount({ pool, projection, feed, signal }, account)
    const away = outcome.kind === 'waits' && outcome.problem.code === 'feed_unreachable'
    if (outcome.kind === 'waits' && outcome.problem.code.startsWith('feed_')) {
      status.quarantine.trouble = outcome.problem.detail
    } else if (outcome.kind !== 'gone') status.quarantine.trouble = undefined
    if (this.#feedWasAway && outcome.kind !== 'gone' && !away) {
      await makeDue(pool, projection.name, 'feed_unreachable')
    }
    if (outcome.kind !== 'gone') this.#feedWasAway = away
    this.#say(account, outcome)
    return outcome
  }

  /** How many entries were due, up to a limit. */
  async #look(signal: AbortSignal): Promise<number> {
    const { pool, projection, feed, status } = this.#settings
    const { quarantine } = status
    quarantine.accounts = await countEntries(pool, projection.name)
    if (feed === undefined || quarantine.accounts === 0) return 0
    const due = await claimDue(pool, projection.name, claimed)
    for (const account of due) {
      if (signal.aborted) return 0
      await this.attempt(account)
      // The others would only wait for the same answer.
      if (this.#feedWasAway) break
    }
    if (due.length > 0) quarantine.accounts = await countEntries(pool, projection.name)
    return this.#feedWasAway ? 0 : due.length
  }

  #say(account: string, outcome: RepairOutcome): void {
    const { log, status } = this.#settings
    const { projection, quarantine } = status
    if (outcome.kind === 'waits') {
      const { code, detail } = outcome.problem
      log.warn({ event: 'account_not_repaired', projection, account, code }, detail)
      return
    }
    if (outcome.kind === 'gone') return
    const { applied, version, restored } = outcome
    quarantine.repaired += 1
    if (restored) quarantine.restored += 1
    const said = { event: 'account_released', projection, account, applied, version, restored }
    if (!restored) return log.warn(said, `account ${account} is repaired up to version ${version}`)
    log.error(
      said,
      `the history of account ${account} was replaced by the feed's, up to version ${version}: ` +
        'what was read of it before may not be so any more',
    )
  }
}
