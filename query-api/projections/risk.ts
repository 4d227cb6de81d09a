import { type Notification, queueNotifications } from '../notifications/queue.ts'
import { withOwnHeads } from '../own-heads.ts'
import type { ProjectedEvent, Projection } from '../projection.ts'
import type { Transaction } from '../transaction.ts'
import { assess, type Flag, type History, noHistory } from './risk-rules.ts'

// The projection `risk`: flags, each with the events that raised it.

export const risk: Projection = withOwnHeads({
  name: 'risk',
  carried: {
    columns: { history: 'jsonb' },
    after: judge,
  },
  fold(transaction, changes, { origin }) {
    const flags = changes.flatMap(({ after }) => after.flags)
    insertFlags(transaction, flags)
    if (origin === 'log') queueNotifications(transaction, flags.map(notificationOf))
  },
  async forget(transaction, account) {
    await transaction.query('delete from read.risk_flags where account_id = $1', [account])
  },
})

/** What is remembered of an account, and the flags that its events raise. */
function judge(before: { history: string } | undefined, events: readonly ProjectedEvent[]) {
  const flags: Flag[] = []
  let history = before === undefined ? noHistory : (JSON.parse(before.history) as History)
  for (const event of events) {
    const judged = assess(history, event)
    history = judged.history
    flags.push(...judged.flags)
  }
  return { history: JSON.stringify(history), flags }
}

function insertFlags(transaction: Transaction, flags: readonly Flag[]): void {
  if (flags.length === 0) return
  transaction.send({
    name: 'risk-insert',
    text: `insert into read.risk_flags (account_id, version, kind, at, detail, events)
      select * from unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[],
        $6::jsonb[])`,
    values: [
      flags.map(({ account }) => account),
      flags.map(({ version }) => version),
      flags.map(({ kind }) => kind),
      flags.map(({ at }) => at),
      flags.map(({ detail }) => detail),
      flags.map(({ events }) => JSON.stringify(events)),
    ],
  })
}

function notificationOf({ account, version, kind, at, detail }: Flag): Notification {
  return { kind: `risk_${kind}`, account, version, at, body: { detail } }
}
