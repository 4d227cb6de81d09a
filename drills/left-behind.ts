import { waitUntil } from 'local-stack'
import { ask } from './sql.ts'

// Slots keep log, and connectors send: of both there is to be what the mode in use has, and nothing
// else. Their names are written down here once more, as the relay's README tells them to operators.

export type Place = { writeUrl: string; connectUrl: string | undefined }

type Outside = { slots: readonly string[]; connectors: readonly string[] }

/** Beyond a minute: that often a leader looks for what one that slept has made when it woke. */
const deadlineMs = 75_000

/** Slots that the server keeps log for. */
export async function slotsOf(writeUrl: string): Promise<string[]> {
  const rows = await ask<{ name: string }>(
    writeUrl,
    `select slot_name as name from pg_replication_slots
      where slot_type = 'logical' and database = current_database() order by 1`,
  )
  return rows.map(({ name }) => name)
}

async function connectorsOf(connectUrl: string | undefined): Promise<string[]> {
  if (connectUrl === undefined) return []
  const response = await fetch(`${connectUrl}/connectors`, { signal: AbortSignal.timeout(3_000) })
  if (!response.ok) throw new Error(`Connect answers ${response.status}`)
  return ((await response.json()) as string[]).toSorted()
}

/** What whoever leads now uses in the mode that it is, with no switch under way. */
async function inUse(writeUrl: string): Promise<Outside> {
  const [row] = await ask<Record<'mode' | 'epoch' | 'database' | 'server', string>>(
    writeUrl,
    `select mode, epoch::text as epoch, oid::text as database,
            control.system_identifier::text as server
       from outbox.relay, pg_database, pg_control_system() as control
      where datname = current_database()`,
  )
  const { mode, epoch, database, server } = row ?? {}
  if (mode === 'wal') return { slots: [`sluice_wal_${database}_${epoch}`], connectors: [] }
  if (mode !== 'debezium') return { slots: [], connectors: [] }
  return {
    slots: [`sluice_debezium_${database}_${epoch}`],
    connectors: [`sluice-outbox-${server}-${database}-${epoch}`],
  }
}

/** What is there and should not be, and what is not there and should be, as sentences. */
export function differences(found: Outside, wanted: Outside): string[] {
  return (['slots', 'connectors'] as const).flatMap((what) => {
    const left = found[what].filter((name) => !wanted[what].includes(name))
    const gone = wanted[what].filter((name) => !found[what].includes(name))
    return [
      ...(left.length > 0 ? [`${what} left behind: ${left.join(', ')}`] : []),
      ...(gone.length > 0 ? [`${what} missing: ${gone.join(', ')}`] : []),
    ]
  })
}

/** Waits until slots and connectors are those of the mode; gives what is otherwise after that. */
export async function leftBehind({ writeUrl, connectUrl }: Place): Promise<string[]> {
  let wrong: string[] = []
  const look = async () => {
    const found = { slots: await slotsOf(writeUrl), connectors: await connectorsOf(connectUrl) }
    wrong = differences(found, await inUse(writeUrl))
    return wrong.length === 0
  }
  const what = 'slots and connectors to be those in use'
  return waitUntil(look, { what, deadlineMs, intervalMs: 50 }).then(
    () => [],
    (error: Error) => (wrong.length > 0 ? wrong : [error.message]),
  )
}

/** The same, and throws what is otherwise. */
export async function requireNothingLeft(place: Place): Promise<void> {
  const wrong = await leftBehind(place)
  if (wrong.length > 0) throw new Error(wrong.join('; '))
}
