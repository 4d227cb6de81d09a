import type { Pool } from 'pg'
import type { Answer } from './answer.ts'
import type { CommandRequest } from './batch.ts'
import type { Birth } from './form.ts'
import { fingerprintOf } from './requests.ts'

// A hold whose time has come is expired by an ordinary command, whose key is made of the hold: however
// many processes find it due, it expires once, or not at all when it was captured first.

/** No access key can have this name. */
const caller = 'sluice:timer'
const atOnce = 500

type Due = { id: string; account_id: string }

/** Expires what is due; a hold whose command has no answer in time is due again at the next tick. */
export async function expireHolds(
  pool: Pool,
  execute: (request: CommandRequest) => Promise<Answer>,
  birth: Birth,
): Promise<void> {
  for (;;) {
    const now = birth.now()
    const due = await dueHolds(pool, now)
    const requests = due.map((hold) => expiryOf(hold, now, birth.newId))
    const answers = await Promise.all(requests.map(execute))
    // An answer that is not final: whatever is in the way, the next tick is soon enough.
    if (due.length < atOnce || answers.some(({ status }) => status >= 500)) return
  }
}

async function dueHolds(pool: Pool, now: Date): Promise<Due[]> {
  const { rows } = await pool.query<Due>({
    name: 'holds-due',
    text: `select id, account_id from ledger.holds
      where status = 'active' and expires_at <= $1 order by expires_at limit $2`,
    values: [now.toISOString(), atOnce],
  })
  return rows
}

function expiryOf(hold: Due, now: Date, newId: () => string): CommandRequest {
  const commandId = newId()
  const traceId = commandId.replaceAll('-', '')
  return {
    caller,
    key: `expire-${hold.id}`,
    fingerprint: fingerprintOf(`expire\n${hold.id}`),
    commandId,
    command: {
      kind: 'ExpireHold',
      accountId: hold.account_id,
      holdId: hold.id,
      transactionId: newId(),
      at: now.toISOString(),
    },
    ifMatch: undefined,
    trace: {
      traceparent: `00-${traceId}-${traceId.slice(0, 16)}-00`,
      traceId,
      correlationId: commandId,
    },
    dryRun: false,
  }
}
