import { strict as assert } from 'node:assert'
import { withOwnHeads } from '../own-heads.ts'
import type { ProjectedEvent } from '../projection.ts'
import { newestAt, Tally, type TallyTable } from '../tally.ts'
import type { Queryable, Transaction } from '../transaction.ts'
import { defaultEdges, type Edges, tierOf } from './tiers-edges.ts'

// The projection `tiers`: accounts grouped by ledger balance, closed ones too. An account's row
// says in which tier it is, and moves in the transaction that moves the counts and totals. The
// edges are read in that transaction once the rows are locked; who changes them locks the rows'
// table first.

type State = { currency: string; tier: string; balance: string }

/** Where a currency is cut. Its exponent is null while no account of it was opened. */
export type Cut = { edges: Edges; exponent: number | null }
type Cuts = ReadonlyMap<string, Cut>

const tallies: TallyTable = {
  table: 'read.tiers_tallies',
  keys: { currency: 'text', tier: 'int' },
  sums: ['accounts', 'total', 'events'],
}

export const tiers = withOwnHeads<State, State, Cuts>({
  name: 'tiers',
  look: readCuts,
  carried: {
    columns: { currency: 'text', tier: 'int', balance: 'bigint' },
    after: stateAfter,
  },
  fold(transaction, changes, { known: cuts }) {
    const opened = changes.filter(({ before }) => before === undefined)
    noteOpened(
      transaction,
      opened.map(({ events }) => events[0]!),
      cuts,
    )
    const tally = new Tally(tallies)
    for (const { before, after, events } of changes) {
      if (before !== undefined) takeOut(tally, before)
      const sums = [1n, BigInt(after.balance), BigInt(events.length)]
      tally.add([after.currency, after.tier], sums, newestAt(events))
    }
    tally.send(transaction)
  },
  forget(transaction, _account, before) {
    const tally = new Tally(tallies)
    takeOut(tally, before)
    tally.send(transaction)
  },
})

function takeOut(tally: Tally, { currency, tier, balance }: State): void {
  tally.add([currency, tier], [-1n, -BigInt(balance), 0n])
}

/** By currency; one without accounts is there when TIERS names it. */
export async function readCuts(database: Queryable): Promise<Map<string, Cut>> {
  const { rows } = await database.query<{
    currency: string
    exponent: number | null
    edges: string[]
  }>({ name: 'tiers-cuts', text: 'select currency, exponent, edges from read.tiers_edges' })
  return new Map(
    rows.map(({ currency, exponent, edges }) => [currency, { exponent, edges: edges.map(BigInt) }]),
  )
}

function stateAfter(
  before: State | undefined,
  events: readonly ProjectedEvent[],
  cuts: Cuts,
): State {
  const balance = events.at(-1)!.event.payload.after.ledgerBalance
  const currency = before?.currency ?? openingOf(events[0]!).currency
  const edges = cuts.get(currency)?.edges ?? defaultEdges(openingOf(events[0]!).exponent)
  return { currency, tier: String(tierOf(edges, BigInt(balance))), balance }
}

function openingOf({ event }: ProjectedEvent): { currency: string; exponent: number } {
  assert(event.type === 'AccountOpened.v1', 'the first event of an account opens it')
  const { currency, exponent } = event.payload
  return { currency, exponent }
}

/** A currency's first account brings its exponent, and its edges unless TIERS has given them. */
function noteOpened(transaction: Transaction, opened: readonly ProjectedEvent[], cuts: Cuts): void {
  const unknown = opened
    .map(openingOf)
    .filter(({ currency }) => (cuts.get(currency)?.exponent ?? null) === null)
  const exponents = new Map(unknown.map(({ currency, exponent }) => [currency, exponent]))
  if (exponents.size === 0) return
  // Sorted, for the transactions that find the same currencies new wait for each other.
  const rows = [...exponents].toSorted(([one], [other]) => (one < other ? -1 : 1))
  transaction.send({
    name: 'tiers-note-opened',
    text: `insert into read.tiers_edges as e (currency, exponent, edges)
      select currency, exponent, edges::bigint[]
      from unnest($1::text[], $2::smallint[], $3::text[]) as n(currency, exponent, edges)
      on conflict (currency) do update set exponent = excluded.exponent where e.exponent is null`,
    values: [
      rows.map(([currency]) => currency),
      rows.map(([, exponent]) => exponent),
      rows.map(([, exponent]) => `{${defaultEdges(exponent).join()}}`),
    ],
  })
}
