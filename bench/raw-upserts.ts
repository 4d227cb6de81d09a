// A worker: part b's reference for `accounts`. The events are folded beforehand as far as a chunk
// allows: lock, insert, update.
import { lastOf, type RawClient, type RawEvent, type RawInput, timeChunks } from './raw-chunks.ts'
import { serveWorker } from './worker.ts'

await serveWorker((input: RawInput, tick) =>
  timeChunks(input, tick, (client, chunk) => upsert(client, lastOf(chunk))),
)

async function upsert(client: RawClient, rows: readonly RawEvent[]): Promise<void> {
  const accounts = rows.map((row) => row.account)
  const heads = await client.query<{ id: string }>({
    name: 'heads',
    text: 'select id, version from read.accounts where id = any($1) order by id for update',
    values: [accounts],
  })
  const known = new Set(heads.rows.map((row) => row.id))
  const opened = rows.filter((row) => !known.has(row.account))
  const changed = rows.filter((row) => known.has(row.account))
  if (opened.length > 0) {
    await client.query({
      name: 'insert',
      text: `insert into read.accounts (id, owner, currency, exponent, type, status, ledger_balance,
          held, available, overdraft_limit, metadata, version, last_event_id, opened_at, as_of)
        select id, 'Ada Lovelace', 'EUR', 2, 'current', 'open', balance, 0, balance, 0, '{}',
          version, event, now(), now()
        from unnest($1::text[], $2::bigint[], $3::bigint[], $4::uuid[])
          as n(id, balance, version, event)`,
      values: columns(opened),
    })
  }
  if (changed.length > 0) {
    await client.query({
      name: 'update',
      text: `update read.accounts a set status = 'open', ledger_balance = n.balance, held = 0,
          available = n.balance, version = n.version, last_event_id = n.event, as_of = now()
        from unnest($1::text[], $2::bigint[], $3::bigint[], $4::uuid[])
          as n(id, balance, version, event)
        where a.id = n.id`,
      values: columns(changed),
    })
  }
}

function columns(rows: readonly RawEvent[]) {
  return [
    rows.map((row) => row.account),
    rows.map((row) => row.balance),
    rows.map((row) => row.version),
    rows.map((row) => row.id),
  ]
}
