import type { Pool } from 'pg'
import { backoffMs, pause } from 'service/backoff'
import type { Log } from 'service/log'
import {
  claimNotifications,
  noteNotificationProblem,
  type Notification,
  removeNotification,
} from './queue.ts'

// Tells what is queued, to a webhook or to the log: at least once, in no promised order. Who is told
// twice knows it by the id. A webhook that is away loses nothing: what it was not told waits in the
// database, a few at a time are tried, and never more than one at once.

export type TellerSettings = {
  pool: Pool
  /** Without one, the log is told. */
  webhookUrl: string | undefined
  signal: AbortSignal
  log: Log
  /** How often it looks for more. 1 s by default. */
  lookIntervalMs?: number
  timeoutMs?: number
}

const claimed = 20
const failureBackoff = { firstMs: 500, capMs: 30_000 }

/** Runs until the signal aborts. Never throws: what it meets is logged, and it tries again. */
export async function runTeller(settings: TellerSettings): Promise<void> {
  const { signal, log, lookIntervalMs = 1_000 } = settings
  for (let failures = 0; !signal.aborted;) {
    let waitMs = lookIntervalMs
    try {
      const told = await tellDue(settings)
      if (told === claimed) waitMs = 0
      failures = 0
    } catch (error) {
      if (signal.aborted) return
      failures += 1
      waitMs = backoffMs(failures, failureBackoff)
      const level = failures > 3 ? 'error' : 'warn'
      log[level](
        { event: 'notifications_wait', failures, err: error },
        'notifications could not be told and are tried again',
      )
    }
    await pause(waitMs, signal)
  }
}

/** How many were told. Throws what keeps all of them from being told. */
async function tellDue(settings: TellerSettings): Promise<number> {
  const { pool, signal } = settings
  const due = await claimNotifications(pool, claimed)
  let told = 0
  for (const notification of due) {
    if (signal.aborted) return told
    const problem = await tell(settings, notification)
    if (problem === undefined) {
      await removeNotification(pool, notification)
      told += 1
      continue
    }
    await noteNotificationProblem(pool, notification, problem.text)
    // The others would only meet the same.
    if (problem.away) throw new Error(problem.text)
  }
  return told
}

type Problem = { text: string; away: boolean }

async function tell(
  { webhookUrl, signal, log, timeoutMs = 5_000 }: TellerSettings,
  { kind, account, version, at, body }: Notification,
): Promise<Problem | undefined> {
  const id = `${kind}/${account}/${version}`
  if (webhookUrl === undefined) {
    // Amounts are not for a log.
    log.info({ event: 'notification', id, kind, account, version, at }, `notification ${id}`)
    return undefined
  }
  try {
    const response = await fetch(webhookUrl, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'Idempotency-Key': id },
      body: JSON.stringify({ id, kind, accountId: account, version, at, ...body }),
      redirect: 'error',
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    })
    await response.body?.cancel()
    if (response.ok) return undefined
    // 4xx is said of this one, the rest of all.
    const away = response.status >= 500 || response.status === 429 || response.status === 408
    return { text: `the webhook answers ${response.status}`, away }
  } catch (error) {
    const { name, message } = error as Error
    return { text: `the webhook does not answer: ${name}: ${message}`.slice(0, 300), away: true }
  }
}
