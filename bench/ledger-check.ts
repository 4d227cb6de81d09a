import type pg from 'pg'
import { mustEqual } from './errors.ts'
import { connect } from './servers.ts'

export type LedgerCounts = { events: number; queued: number; answers: number; money: number }

export async function countsOf(client: pg.Client): Promise<LedgerCounts> {
  const { rows } = await client.query<LedgerCounts>(
    `select (select count(*)::int from ledger.account_events) as events,
       (select count(*)::int from outbox.events) as queued,
       (select count(*)::int from ledger.idempotency) as answers,
       (select coalesce(sum(ledger_balance), 0)::float8 from ledger.accounts) as money`,
  )
  return rows[0]!
}

const faults = {
  'accounts that are not at their last event': `
    select count(*)::int as count from ledger.accounts a where version is distinct from
      (select max(version) from ledger.account_events e where e.account_id = a.id)`,
  'accounts whose versions have holes': `
    select count(*)::int as count from (
      select account_id from ledger.account_events group by account_id
      having min(version) <> 1 or max(version) <> count(*)) as holed`,
  'events at a position before that of an earlier version': `
    select count(*)::int as count from (
      select outbox_position, lag(outbox_position)
          over (partition by account_id order by version) as before
      from ledger.account_events) as placed
    where before >= outbox_position`,
  'accounts whose balance is not the sum of their entries': `
    select count(*)::int as count from ledger.accounts a
    left join (select account_id, sum(amount) as sum from ledger.entries group by account_id) as e
      on e.account_id = a.id
    where ledger_balance <> coalesce(sum, 0)`,
  'currencies whose entries do not sum to zero': `
    select count(*)::int as count from (
      select currency from ledger.entries group by currency having sum(amount) <> 0) as drifted`,
  'events that are not in the queue as they were recorded': `
    select count(*)::int as count from ledger.account_events e
    full join outbox.events o on o.position = e.outbox_position and o.id = e.id
      and o.aggregateid = e.account_id and o.aggregateversion = e.version
    where (e.id is null or o.id is null) and o.type is distinct from 'Heartbeat.v1'`,
}

/** Throws `violation` when the ledger as a whole is not right. */
export async function checkLedger(url: string): Promise<void> {
  await using client = await connect(url)
  for (const [what, text] of Object.entries(faults)) {
    const { rows } = await client.query<{ count: number }>(text)
    mustEqual(what, rows[0]?.count ?? -1, 0)
  }
}
