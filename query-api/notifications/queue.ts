import type { Pool } from 'pg'
import type { Transaction } from '../transaction.ts'

// Every statement on read.notifications. A notification is queued in the transaction that applies its
// event, so it is there if and only if that is; it leaves the queue after it was told.

export type Notification = {
  kind: 'large_withdrawal' | 'account_closed' | `risk_${string}`
  account: string
  version: number
  /** When the event was recorded. */
  at: string
  /** What else there is to tell. */
  body: Readonly<Record<string, string>>
}

export function queueNotifications(
  transaction: Transaction,
  notifications: readonly Notification[],
): void {
  if (notifications.length === 0) return
  transaction.send({
    name: 'notifications-queue',
    text: `insert into read.notifications (kind, account_id, version, at, body)
      select * from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::jsonb[])
      on conflict do nothing`,
    values: [
      notifications.map(({ kind }) => kind),
      notifications.map(({ account }) => account),
      notifications.map(({ version }) => version),
      notifications.map(({ at }) => at),
      notifications.map(({ body }) => JSON.stringify(body)),
    ],
  })
}

type Row = {
  kind: Notification['kind']
  account_id: string
  version: string
  at: Date
  body: Record<string, string>
}

/**
 * Those due, at most `limit`, the oldest first. Each is put off by a growing wait with jitter, half a
 * second to a minute: a second process leaves it alone, and a failure needs no statement.
 */
export async function claimNotifications(pool: Pool, limit: number): Promise<Notification[]> {
  const { rows } = await pool.query<Row>({
    name: 'notifications-claim',
    text: `update read.notifications set attempts = attempts + 1,
        next_attempt_at = clock_timestamp() + (0.5 + random() / 2)
          * least(60, 2 ^ least(attempts, 10)) * interval '1 second'
      where (kind, account_id, version) in (
        select kind, account_id, version from read.notifications
        where next_attempt_at <= clock_timestamp()
        order by next_attempt_at limit $1 for update skip locked)
      returning kind, account_id, version, at, body`,
    values: [limit],
  })
  return rows
    .toSorted((one, other) => one.at.getTime() - other.at.getTime())
    .map(({ account_id: account, version, at, ...rest }) => ({
      ...rest,
      account,
      version: Number(version),
      at: at.toISOString(),
    }))
}

type Named = Pick<Notification, 'kind' | 'account' | 'version'>

export async function removeNotification(
  pool: Pool,
  { kind, account, version }: Named,
): Promise<void> {
  await pool.query({
    name: 'notifications-remove',
    text: 'delete from read.notifications where kind = $1 and account_id = $2 and version = $3',
    values: [kind, account, version],
  })
}

export async function noteNotificationProblem(
  pool: Pool,
  { kind, account, version }: Named,
  problem: string,
): Promise<void> {
  await pool.query(
    `update read.notifications set problem = $4
      where kind = $1 and account_id = $2 and version = $3`,
    [kind, account, version, problem],
  )
}
