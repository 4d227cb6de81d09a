// A worker: part b's reference for `statements`. A line per movement, and a row of heads per account:
// lock, insert, update.
import { lastOf, type RawClient, type RawEvent, type RawInput, timeChunks } from './raw-chunks.ts'
import { serveWorker } from './worker.ts'

await serveWorker((input: RawInput, tick) =>
  timeChunks(input, tick, async (client, chunk) => {
    await saveHeads(client, lastOf(chunk))
    await insertLines(
      client,
      chunk.filter(({ transaction }) => transaction !== null),
    )
  }),
)

async function saveHeads(client: RawClient, rows: readonly RawEvent[]): Promise<void> {
  const accounts = rows.map((row) => row.account)
  const heads = await client.query<{ account_id: string }>({
    name: 'heads',
    text: `select account_id, version from read.statements_heads
      where account_id = any($1) order by account_id for update`,
    values: [accounts],
  })
  const known = new Set(heads.rows.map((row) => row.account_id))
  const opened = rows.filter((row) => !known.has(row.account))
  const changed = rows.filter((row) => known.has(row.account))
  if (opened.length > 0) {
    await client.query({
      name: 'insert',
      text: `insert into read.statements_heads
        select id, version, event, 'EUR', 2, balance, 0, at
        from unnest($1::text[], $2::bigint[], $3::bigint[], $4::uuid[], $5::text[])
          as n(id, balance, version, event, at)`,
      values: headColumns(opened),
    })
  }
  if (changed.length > 0) {
    await client.query({
      name: 'update',
      text: `update read.statements_heads h set balance = n.balance, version = n.version,
          last_event_id = n.event, as_of = n.at
        from unnest($1::text[], $2::bigint[], $3::bigint[], $4::uuid[], $5::text[])
          as n(id, balance, version, event, at)
        where h.account_id = n.id`,
      values: headColumns(changed),
    })
  }
}

function headColumns(rows: readonly RawEvent[]) {
  return [
    rows.map((row) => row.account),
    rows.map((row) => row.balance),
    rows.map((row) => row.version),
    rows.map((row) => row.id),
    rows.map((row) => row.at),
  ]
}

async function insertLines(client: RawClient, rows: readonly RawEvent[]): Promise<void> {
  await client.query({
    name: 'lines',
    text: `insert into read.statement_lines (account_id, recorded_at, version, effective_at, kind,
        amount, balance, shifted_total, transaction_id)
      select id, at, version, at, 'deposit', 100, balance, 0, transaction
      from unnest($1::text[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::uuid[])
        as n(id, at, version, balance, transaction)`,
    values: [
      rows.map((row) => row.account),
      rows.map((row) => row.at),
      rows.map((row) => row.version),
      rows.map((row) => row.balance),
      rows.map((row) => row.transaction),
    ],
  })
}
