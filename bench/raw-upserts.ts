// A worker: part b's reference. The events are folded beforehand as far as a chunk allows, so that
// only the statements are timed: one transaction per chunk, which locks, inserts, updates, and moves
// an offset, over as many connections as the projection works on partitions side by side.
import { partitionOf } from 'kafka/partition'
import { connect } from './servers.ts'
import { serveWorker } from './worker.ts'
import { partitions } from './topic-check.ts'

type Input = { from: string; to: string; events: number }
type Event = { account: string; version: number; id: string; balance: string }
type Chunk = { events: number; rows: Event[] }

const chunkRecords = 2_000
const sideBySide = 3

await serveWorker(async ({ from, to, events }: Input, tick) => {
  const perPartition = await chunksOf(from, events)
  const begunMs = performance.now()
  let done = 0
  const lane = async () => {
    await using client = await connect(to)
    for (let next = perPartition.shift(); next !== undefined; next = perPartition.shift()) {
      for (const chunk of next) {
        await applyChunk(client, chunk)
        done += chunk.events
        tick(`${done} of ${events}`)
      }
    }
  }
  await Promise.all(Array.from({ length: sideBySide }, lane))
  return { perSecond: events / ((performance.now() - begunMs) / 1_000) }
})

async function chunksOf(url: string, events: number): Promise<Chunk[][]> {
  await using client = await connect(url)
  const { rows } = await client.query<Event>(
    `select aggregateid as account, aggregateversion::int as version, id::text,
        payload -> 'after' ->> 'ledgerBalance' as balance
      from outbox.events where position <= $1 order by position`,
    [events],
  )
  const chunks: Chunk[][] = Array.from({ length: partitions }, () => [])
  for (const [partition, own] of Map.groupBy(rows, (row) => partitionOf(row.account, partitions))) {
    for (let at = 0; at < own.length; at += chunkRecords) {
      const part = own.slice(at, at + chunkRecords)
      const last = new Map(part.map((event) => [event.account, event]))
      chunks[partition]?.push({ events: part.length, rows: [...last.values()] })
    }
  }
  return chunks
}

async function applyChunk(client: Awaited<ReturnType<typeof connect>>, { rows }: Chunk) {
  const accounts = rows.map((row) => row.account)
  await client.query('begin')
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
  await client.query('commit')
}

function columns(rows: readonly Event[]) {
  return [
    rows.map((row) => row.account),
    rows.map((row) => row.balance),
    rows.map((row) => row.version),
    rows.map((row) => row.id),
  ]
}
