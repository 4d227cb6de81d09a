import { randomUUID } from 'node:crypto'
import pg from 'pg'
import type { Outcome } from './history.ts'

// Transfers that no command makes: with a payload larger than Kafka takes, or in a transaction that stays
// open. Written by the law that the command side obeys: both accounts are locked, in one order, before the
// first insert, so that version and position are drawn under the locks; the rows are inserted by account
// and version.

export type Transfer = {
  key: string
  from: string
  to: string
  amount: bigint
  /** In both events. */
  reference?: string
  /** Awaited once its rows are written; until then its transaction stays open. */
  beforeCommit?: (client: pg.PoolClient) => Promise<void>
}

type AccountRow = {
  id: string
  status: string
  frozen: string | null
  ledger_balance: string
  held: string
  overdraft_limit: string
  version: string
}

const writeText = `
with event as (
  select * from json_to_recordset($1) as e (id uuid, account_id text, version bigint, type text,
    payload text, key text, at timestamptz, balance bigint, change bigint, transaction_id uuid)
), queued as (
  insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload, source,
    specversion, traceparent, correlationid, causationid, occurred_at)
  select id, 'account', account_id, version, type, payload::json, 'urn:sluice:command-api', '1.0',
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00', key, key, at
  from event order by account_id, version
  returning position, id
), recorded as (
  insert into ledger.account_events (account_id, version, id, type, payload, outbox_position,
    traceparent, correlationid, causationid, occurred_at)
  select account_id, version, id, type, payload::json, position,
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00', key, key, at
  from event join queued using (id)
), entry as (
  insert into ledger.entries (transaction_id, account_id, account_version, currency, amount,
    effective_at, recorded_at)
  select transaction_id, account_id, version, 'EUR', change, at, at from event
)
update ledger.accounts a set ledger_balance = e.balance, version = e.version, as_of = e.at
  from event e where a.id = e.account_id`

/**
 * One transfer in one transaction. A connection lost is an unknown outcome. Rejects with what else
 * PostgreSQL says: that is no refusal, but a transfer that can never be.
 */
export async function transfer(pool: pg.Pool, order: Transfer): Promise<Outcome> {
  let client: pg.PoolClient
  try {
    client = await pool.connect()
  } catch {
    return 'refused' // Nothing was sent.
  }
  let committing = false
  try {
    await client.query('begin')
    const { rows } = await client.query<AccountRow>(
      'select * from ledger.accounts where id = any($1) order by id for update',
      [[order.from, order.to]],
    )
    const events = eventsOf(order, rows)
    if (events !== undefined) await client.query(writeText, [JSON.stringify(events)])
    await order.beforeCommit?.(client)
    committing = true
    await client.query(events === undefined ? 'rollback' : 'commit')
    client.release()
    return events === undefined ? 'refused' : 'ok'
  } catch (error) {
    client.release(error as Error)
    if (!isPassing(error)) throw error
    return committing ? 'unknown' : 'refused'
  }
}

/** Connections lost, servers going down or full, locks in the way; client errors have no such code. */
function isPassing(error: unknown): boolean {
  return (
    !(error instanceof pg.DatabaseError) || /^(08|40|53|55P03|57P0|25P0)/.test(error.code ?? '')
  )
}

/** Undefined when it is refused: an account is missing, closed or frozen, or has too little. */
function eventsOf(order: Transfer, rows: readonly AccountRow[]) {
  const { key, from, to, amount, reference = 'transfer' } = order
  const [payer, payee] = [from, to].map((id) => rows.find((row) => row.id === id))
  if (payer?.status !== 'open' || payee?.status !== 'open') return undefined
  if (payer.frozen !== null || payee.frozen !== null) return undefined
  if (availableOf(payer) < amount) return undefined
  const [transactionId, transferId] = [randomUUID(), randomUUID()]
  const at = new Date().toISOString()
  const event = (row: AccountRow, change: bigint) => {
    const version = Number(row.version) + 1
    const balance = BigInt(row.ledger_balance) + change
    const payload = {
      accountId: row.id,
      transactionId,
      transferId,
      counterpartyId: row.id === from ? to : from,
      amount: String(amount),
      currency: 'EUR',
      reference,
      effectiveAt: at,
      after: {
        version,
        ledgerBalance: String(balance),
        held: row.held,
        available: String(availableOf(row) + change),
        status: row.status,
      },
    }
    return {
      id: randomUUID(),
      account_id: row.id,
      version,
      type: change < 0n ? 'FundsTransferredOut.v1' : 'FundsTransferredIn.v1',
      payload: JSON.stringify(payload),
      key,
      at,
      balance: String(balance),
      change: String(change),
      transaction_id: transactionId,
    }
  }
  return [event(payer, -amount), event(payee, amount)]
}

function availableOf(row: AccountRow): bigint {
  return BigInt(row.ledger_balance) - BigInt(row.held) + BigInt(row.overdraft_limit)
}
