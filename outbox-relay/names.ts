import type { Lease } from './lease.ts'
import { type Queryable, queryText } from './text-query.ts'

// A slot's name is one of the whole server's, a connector's one of the whole worker's: both carry the
// database that they are for. The number at their end is the epoch that made them. A leader removes
// what earlier epochs left, never what a later one made while it slept.

export type Names = {
  epoch: string
  /** What identifies the server, and the database on it. */
  server: string
  database: string
  /** Of the slots of the modes wal and debezium. */
  walSlot: string
  slot: string
  connector: string
  /** Of every connector of this database, whatever its epoch. */
  connectorPrefix: string
}

export async function namesOf(
  db: Queryable,
  { epoch, row }: Pick<Lease, 'epoch' | 'row'>,
): Promise<Names> {
  const [database] = await queryText(db, {
    name: 'relay-database',
    text: 'select oid from pg_database where datname = current_database()',
    values: [],
    timeoutMs: 5_000,
  })
  const oid = database?.[0] ?? ''
  const server = row.serverIdentifier
  const connectorPrefix = `sluice-outbox-${server}-${oid}-`
  return {
    epoch,
    server,
    database: oid,
    walSlot: `sluice_wal_${oid}_${epoch}`,
    slot: `sluice_debezium_${oid}_${epoch}`,
    connector: `${connectorPrefix}${epoch}`,
    connectorPrefix,
  }
}

/** Those of the names with this prefix that an epoch up to `last` has made. */
export function madeUpTo(last: bigint, names: readonly string[], prefix: string): string[] {
  return names.filter((name) => {
    const epoch = name.startsWith(prefix) ? name.slice(prefix.length) : ''
    return /^\d+$/.test(epoch) && BigInt(epoch) <= last
  })
}
