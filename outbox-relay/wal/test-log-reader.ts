import { waitUntil } from 'local-stack/wait-until'
import type { OutboxRow } from '../wire.ts'
import { PgoutputDecoder } from './pgoutput.ts'
import { type ReplicationOptions, ReplicationSession, type Slot } from './replication-session.ts'

/** A session with a slot; the slot goes when it is disposed of. */
export async function openSlot(url: string, name: string, options?: ReplicationOptions) {
  const session = await ReplicationSession.open(url, options)
  try {
    return { session, slot: await session.createSlot(name) }
  } catch (error) {
    await session[Symbol.asyncDispose]()
    throw error
  }
}

/** Collects all that a slot brings, and acknowledges what it is told to. */
export function readLog({ session, slot }: { session: ReplicationSession; slot: Slot }) {
  const rows: OutboxRow[] = []
  const decoder = new PgoutputDecoder()
  let settled = slot.consistentPoint
  let failure: unknown
  const streaming = session.stream(slot, 'sluice_outbox', {
    onMessage(bytes) {
      const decoded = decoder.decode(bytes)
      if (decoded.kind === 'row') rows.push(decoded.row)
      if (decoded.kind === 'commit') settled = decoded.end
    },
    onKeepalive: (end) => (settled = end),
    settled: () => settled,
  })
  const ended = streaming.catch((error: unknown) => (failure = error))
  return {
    rows,
    /** Resolves with what ended the stream. */
    ended,
    settled: () => settled,
    positions: () => rows.map((row) => BigInt(row[0])),
    /** Resolves once the row is there. */
    async until(position: bigint): Promise<void> {
      const there = () => {
        if (failure !== undefined) throw failure
        return rows.some((row) => row[0] === String(position))
      }
      await waitUntil(there, { what: `position ${position} to come`, deadlineMs: 20_000 })
    },
  }
}
