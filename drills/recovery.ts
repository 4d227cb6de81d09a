import { waitUntil } from 'local-stack'
import { ask } from './sql.ts'
import { topicEnds } from './topic-reader.ts'

type Urls = { writeUrl: string; readUrl: string }
type Head = { id: string; version: string }

/**
 * Milliseconds until a command sent now is accepted and can be read, and with it everything else
 * that was committed by then. Throws after the deadline: it does not recover without a person.
 */
export async function recovery(
  { writeUrl, readUrl }: Urls,
  { probe, deadlineMs }: { probe: (limitMs: number) => Promise<unknown>; deadlineMs: number },
): Promise<number> {
  const startedMs = performance.now()
  await probe(deadlineMs)
  let wanted: Head[] | undefined
  await waitUntil(
    async () => {
      wanted ??= await ask<Head>(
        writeUrl,
        'select id, version from ledger.accounts order by as_of desc limit 100',
      )
      const found = await ask<Head>(
        readUrl,
        'select id, version from read.accounts where id = any($1)',
        [wanted.map((row) => row.id)],
      )
      const versions = new Map(found.map((row) => [row.id, BigInt(row.version)]))
      wanted = wanted.filter((row) => (versions.get(row.id) ?? 0n) < BigInt(row.version))
      return wanted.length === 0
    },
    { what: 'the read side to catch up', deadlineMs, intervalMs: 100 },
  )
  return performance.now() - startedMs
}

/** Resolves once nothing is left to publish, by the relay's own word. */
export async function drained({ writeUrl }: Urls, deadlineMs: number): Promise<void> {
  await waitUntil(
    async () => {
      const [row] = await ask<{ done: boolean }>(
        writeUrl,
        `select next_position > coalesce((select max(position) from outbox.events), 0)
                and not exists (select from outbox.gaps) as done
           from outbox.relay`,
      )
      return row?.done === true
    },
    { what: 'the relay to have published everything', deadlineMs, intervalMs: 50 },
  )
}

/** Resolves once every account is read as it was written. */
export async function caughtUp(urls: Urls, deadlineMs: number): Promise<void> {
  const state = 'select md5(string_agg(id || version, $1 order by id)) as state from'
  await waitUntil(
    async () => {
      const written = await ask<{ state: string }>(urls.writeUrl, `${state} ledger.accounts`, [','])
      const read = await ask<{ state: string }>(urls.readUrl, `${state} read.accounts`, [','])
      return written[0]?.state === read[0]?.state
    },
    { what: 'the read side to equal the write side', deadlineMs, intervalMs: 100 },
  )
}

/** Resolves once every projection has taken every record of the topic, applied or not. */
export async function consumed(
  { readUrl, brokers }: { readUrl: string; brokers: readonly string[] },
  topic: string,
  deadlineMs: number,
): Promise<void> {
  await waitUntil(
    async () => {
      const ends = await topicEnds(brokers, topic)
      const rows = await ask<{ partition: number; next: string }>(
        readUrl,
        'select partition, min(next_offset) as next from read.offsets where topic = $1 group by 1',
        [topic],
      )
      const next = new Map(rows.map((row) => [row.partition, BigInt(row.next)]))
      return [...ends].every(([partition, end]) => (next.get(partition) ?? 0n) >= end)
    },
    { what: 'the read side to have consumed everything', deadlineMs, intervalMs: 200 },
  )
}
