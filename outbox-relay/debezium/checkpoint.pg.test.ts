import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { openCursor } from '../cursor.ts'
import { readingSession, testOutbox } from '../test-outbox.ts'
import { formatLsn } from '../wal/lsn.ts'
import { takeCheckpoint } from './checkpoint.ts'

test('lies behind every row that it saw, even where a commit did not wait for its log to be written', async () => {
  await using outbox = await testOutbox()
  await using writer = await outbox.superuser()
  await using reading = await readingSession(outbox.relayUrl)
  await writer.sql('set synchronous_commit = off')
  const event = { aggregateType: 'account', aggregateId: 'a' }
  // Where the log is written up to does not tell what is visible: the trap is there to fall into.
  let [version, position, inserted] = [0, 0n, '']
  await waitUntil(
    async () => {
      version += 1
      ;[position = 0n] = await writer.insert({ ...event, version })
      const { rows } = await writer.client.query<{ inserted: string; behind: boolean }>(
        `select pg_current_wal_insert_lsn()::text as inserted,
                pg_current_wal_lsn() < pg_current_wal_insert_lsn() as behind`,
      )
      inserted = rows[0]?.inserted ?? ''
      return rows[0]?.behind === true
    },
    { what: 'a commit that is visible before its log is written', intervalMs: 1 },
  )
  const cursor = openCursor(reading.client)
  const { positions, lsn } = await takeCheckpoint(outbox.pool, cursor, { next: 1n, gaps: [] })
  expect(positions.at(-1)).toBe(position)
  const { rows } = await writer.client.query<{ behind: boolean }>(
    `select $1::pg_lsn >= $2::pg_lsn as behind`,
    [formatLsn(lsn), inserted],
  )
  expect(rows).toEqual([{ behind: true }])
})
