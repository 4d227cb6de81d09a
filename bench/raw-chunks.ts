import { partitionOf } from 'kafka/partition'
import { connect } from './servers.ts'
import { partitions } from './topic-check.ts'

// What part b's references have in common: the events in the chunks that the projection gets them in,
// made beforehand, so that only the statements are timed: one transaction per chunk, over as many
// connections as the projection works on partitions side by side.

export type RawInput = { from: string; to: string; events: number }
export type RawEvent = {
  account: string
  version: number
  id: string
  balance: string
  transaction: string | null
  at: string
}
export type RawClient = Awaited<ReturnType<typeof connect>>
/** In their order. */
type Chunk = readonly RawEvent[]

const chunkRecords = 2_000
const sideBySide = 3

/** How fast `write` takes all chunks, each in a transaction. */
export async function timeChunks(
  { from, to, events }: RawInput,
  tick: (text: string) => void,
  write: (client: RawClient, chunk: Chunk) => Promise<void>,
): Promise<{ perSecond: number }> {
  const perPartition = await chunksOf(from, events)
  const begunMs = performance.now()
  let done = 0
  const lane = async () => {
    await using client = await connect(to)
    for (let next = perPartition.shift(); next !== undefined; next = perPartition.shift()) {
      for (const chunk of next) {
        await client.query('begin')
        await write(client, chunk)
        await client.query('commit')
        done += chunk.length
        tick(`${done} of ${events}`)
      }
    }
  }
  await Promise.all(Array.from({ length: sideBySide }, lane))
  return { perSecond: events / ((performance.now() - begunMs) / 1_000) }
}

/** Each account's last event of a chunk. */
export function lastOf(chunk: Chunk): RawEvent[] {
  return [...new Map(chunk.map((event) => [event.account, event])).values()]
}

async function chunksOf(url: string, events: number): Promise<Chunk[][]> {
  await using client = await connect(url)
  const { rows } = await client.query<RawEvent>(
    `select aggregateid as account, aggregateversion::int as version, id::text,
        payload -> 'after' ->> 'ledgerBalance' as balance,
        payload ->> 'transactionId' as transaction, occurred_at::text as at
      from outbox.events where position <= $1 order by position`,
    [events],
  )
  const chunks: Chunk[][] = Array.from({ length: partitions }, () => [])
  for (const [partition, own] of Map.groupBy(rows, (row) => partitionOf(row.account, partitions))) {
    for (let at = 0; at < own.length; at += chunkRecords) {
      chunks[partition]?.push(own.slice(at, at + chunkRecords))
    }
  }
  return chunks
}
