import { openPool, sqlStateOf } from 'migrations/database'
import { orAborted, pause, settledWithin } from 'service/backoff'
import { RelayError } from './errors.ts'
import type { Names } from './names.ts'
import { type Queryable, queryText } from './text-query.ts'
import { slotProblem } from './wal/replication-session.ts'
import { readSlot } from './wal/slot.ts'

// Slots by SQL, as sluice_cdc: a connector's slot has to outlive the connection that makes it, and the
// slots of every mode go in one way. A walsender's own connection takes no parameters.

type Place = Pick<Names, 'server' | 'database'>

export type CdcSession = { url: string; names: Place; signal: AbortSignal }

/**
 * Work on one connection of its own, which is cut when the signal aborts. Throws `slot_unusable` when
 * the address leads to another database than the names are of: its slots are not ours to touch.
 */
export async function withCdc<T>(
  { url, names, signal }: CdcSession,
  work: (client: Queryable) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted()
  const pool = openPool({
    url,
    applicationName: 'sluice-relay-slots',
    maxConnections: 1,
    // What it waits for ends soon after the connection, and leaves no slot.
    settings: { statement_timeout: '0', client_connection_check_interval: '1s' },
    onError: () => {}, // The statement that was running reports it.
  })
  const connecting = pool.connect()
  try {
    const client = await orAborted(connecting, signal)
    await orAborted(requirePlace(client, names), signal)
    // It may have taken so long that somebody else leads by now.
    signal.throwIfAborted()
    return await orAborted(work(client), signal)
  } finally {
    const closed = connecting.then((client) => client.release(true)).catch(() => {})
    // A line that is silent is given up beside whoever goes on meanwhile.
    await settledWithin(
      closed.then(() => pool.end()),
      signal.aborted ? 0 : closeMs,
    )
  }
}

/** How long the end of a connection that answered is waited for. */
const closeMs = 1_000

const elsewhere = 'CDC_DATABASE_URL leads to another server or database than WRITE_DATABASE_URL'

async function requirePlace(client: Queryable, { server, database }: Place): Promise<void> {
  const [row] = await queryText(client, {
    name: 'relay-place',
    text: `select system_identifier, oid from pg_control_system(), pg_database
            where datname = current_database()`,
    values: [],
    timeoutMs: 5_000,
  })
  if (row?.[0] === server && row[1] === database) return
  throw new RelayError('slot_unusable', elsewhere)
}

/** After a slot was made: a standby, say, has the same identity as its primary. */
export async function requireSeen(db: Queryable, slotName: string): Promise<void> {
  if ((await readSlot(db, slotName)) !== undefined) return
  throw new RelayError(
    'slot_unusable',
    `slot ${slotName} was made and is not to be seen from the write database: ${elsewhere}`,
  )
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
  names: Place
  /** The last epoch whose slots are to go, and with it all before. */
  upTo: bigint
  /** Those that the present sender uses, which stay. */
  inUse?: readonly string[]
  /** Whether whoever uses one is ended: a walsender may outlive the other end of its socket. */
  endUse: boolean
}

const dropPatienceMs = 10_000

const ours = `slot_name ~ ('^sluice_(wal|debezium)_' || $1 || '_[0-9]+$')
  and database = current_database() and substring(slot_name from '[0-9]+$')::numeric <= $2
  and slot_name <> all ($3)`

/**
 * Gives the names of those that are still in use. Throws `slot_unusable` when there is one after 10 s
 * of ending its use.
 */
export async function dropSlots(client: Queryable, old: OldSlots): Promise<string[]> {
  const { names, upTo, inUse = [], endUse } = old
  const deadline = performance.now() + dropPatienceMs
  const values = [names.database, String(upTo), `{${inUse.join(',')}}`]
  const run = (name: string, text: string) =>
    queryText(client, { name, text, values, timeoutMs: 5_000 })
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
    if (left.length === 0 || !endUse) return left.map(([name]) => name ?? '')
    if (performance.now() > deadline) {
      throw new RelayError('slot_unusable', `slot ${left[0]?.[0]} is in use and cannot be dropped`)
    }
    await pause(50)
  }
}
