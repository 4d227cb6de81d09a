import type { ProjectedEvent } from './projection.ts'
import type { Transaction } from './transaction.ts'

// Figures over all accounts, such as how many there are and what they hold, by groups. Every batch
// of every partition adds to the same few groups: one row for each would make all of them wait for
// each other, and would deadlock where two of them take rows in turn. So each group has a row in
// each of some slots; a transaction takes a slot that is free, without waiting, and keeps it until
// it ends. Whoever reads takes the sum over the slots.

export type TallyTable = {
  /** With the columns `slot`, those below, and `as_of`. */
  table: string
  /** What the groups are told apart by: columns and their types. */
  keys: Readonly<Record<string, string>>
  /** Columns of numbers, which are added. */
  sums: readonly string[]
}

/**
 * More than transactions are at work at one time; beyond it they wait for each other, on slot 0.
 */
const slots = 32

type Row = { keys: readonly string[]; sums: bigint[]; asOf: string | null }

/** When the newest of an account's events was recorded: clocks step back, so it may not be the last. */
export function newestAt(events: readonly ProjectedEvent[]): string {
  return events.reduce((newest, { event }) => (event.at > newest ? event.at : newest), '')
}

/** What one transaction adds. */
export class Tally {
  readonly #of: TallyTable
  readonly #rows = new Map<string, Row>()

  constructor(of: TallyTable) {
    this.#of = of
  }

  /**
   * In the order of the table's columns. `asOf` is the time of what was counted; the newest stays.
   */
  add(keys: readonly string[], sums: readonly bigint[], asOf: string | null = null): void {
    const key = keys.join('\0')
    const row = this.#rows.get(key)
    if (row === undefined) {
      this.#rows.set(key, { keys, sums: [...sums], asOf })
      return
    }
    row.sums = row.sums.map((sum, index) => sum + sums[index]!)
    if (asOf !== null && (row.asOf === null || asOf > row.asOf)) row.asOf = asOf
  }

  send(transaction: Transaction): void {
    if (this.#rows.size === 0) return
    const { table, keys, sums } = this.#of
    const names = [...Object.keys(keys), ...sums, 'as_of']
    const types = [...Object.values(keys), ...sums.map(() => 'numeric'), 'timestamptz']
    const arrays = types.map((type, index) => `$${index + 1}::${type}[]`)
    const added = sums.map((name) => `${name} = t.${name} + excluded.${name}`)
    const rows = [...this.#rows.values()]
    transaction.send({
      name: `tally-${table}`,
      text: `with free as materialized (
          select slot from generate_series(1, ${slots}) as slot
          where pg_try_advisory_xact_lock(hashtext('${table}'), slot) limit 1)
        insert into ${table} as t (slot, ${names.join(', ')})
        select coalesce((select slot from free), 0), n.*
        from unnest(${arrays.join(', ')}) as n(${names.join(', ')})
        order by ${Object.keys(keys).join(', ')}
        on conflict (slot, ${Object.keys(keys).join(', ')}) do update set
          ${added.join(', ')}, as_of = greatest(t.as_of, excluded.as_of)`,
      values: [
        ...Object.keys(keys).map((_, index) => rows.map((row) => row.keys[index])),
        ...sums.map((_, index) => rows.map((row) => row.sums[index])),
        rows.map((row) => row.asOf),
      ],
    })
  }
}
