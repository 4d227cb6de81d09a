import { openPool, sqlStateOf } from 'migrations/database'
import { orAborted, pause } from 'service/backoff'
import { RelayError } from './errors.ts'
import { type Queryable, queryText } from './text-query.ts'
import { slotProblem } from './wal/replication-session.ts'

// Slots by SQL, as sluice_cdc: a connector's slot has to outlive the connection that makes it, and the
// slots of every mode go in one way. A walsender's own connection takes no parameters.

export type CdcSession = { url: string; signal: AbortSignal }

/** Work on one connection of its own, which is cut when the signal aborts. */
export async function withCdc<T>(
  { url, signal }: CdcSession,
  work: (client: Queryable) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted()
  await using pool = openPool({
    url,
    applicationName: 'sluice-relay-slots',
    maxConnections: 1,
    settings: { statement_timeout: '0' },
    onError: () => {}, // The statement that was running reports it.
  })
  const client = await pool.connect()
  try {
    return await orAborted(work(client), signal)
  } finally {
    client.release(true)
  }
}

/**
 * Makes the slot and gives its position. Waits until every transaction that was running has ended,
 * however long that is. Throws `slot_unusable`, saying what to set.
 */
export async function createSlot(client: Queryable, name: string): Promise<string> {
  try {
    const { rows } = await client.query<{ lsn: string }>(
      `select lsn::text from pg_create_logical_replication_slot($1, 'pgoutput')`,
      [name],
    )
    return rows[0]?.lsn ?? ''
  } catch (error) {
    throw slotProblem(error)
  }
}

export type OldSlots = {
  /** The last epoch whose slots are to go, and with it all before. */
  upTo: string
  /** Whether whoever uses one is ended: a walsender may outlive the other end of its socket. */
  endUse: boolean
}

const dropPatienceMs = 10_000

const ours = `slot_name ~ '^sluice_(wal|debezium)_([0-9]+_)?[0-9]+$'
  and database = current_database() and substring(slot_name from '[0-9]+$')::numeric <= $1`

/** Throws `slot_unusable` when one is still in use after 10 s of ending its use. */
export async function dropSlots(client: Queryable, { upTo, endUse }: OldSlots): Promise<void> {
  const deadline = performance.now() + dropPatienceMs
  const run = (name: string, text: string) =>
    queryText(client, { name, text, values: [upTo], timeoutMs: 5_000 })
  for (;;) {
    if (endUse) {
      await run(
        'relay-slots-end',
        `select pg_terminate_backend(active_pid) from pg_replication_slots
          where ${ours} and active_pid is not null`,
      )
    }
    await run(
      'relay-slots-drop',
      `select pg_drop_replication_slot(slot_name) from pg_replication_slots
        where ${ours} and active_pid is null and not temporary`,
    ).catch((error: unknown) => {
      // Between the look and the drop somebody took it into use, or dropped it.
      if (!['55006', '42704'].includes(sqlStateOf(error) ?? '')) throw error
    })
    const left = await run(
      'relay-slots-left',
      `select slot_name from pg_replication_slots where ${ours}`,
    )
    if (left.length === 0 || !endUse) return
    if (performance.now() > deadline) {
      throw new RelayError('slot_unusable', `slot ${left[0]?.[0]} is in use and cannot be dropped`)
    }
    await pause(50)
  }
}
