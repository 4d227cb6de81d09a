import { strict as assert } from 'node:assert'
import { withOwnHeads } from '../own-heads.ts'
import type { ProjectedEvent } from '../projection.ts'
import { newestAt, Tally, type TallyTable } from '../tally.ts'

// The projection `totals`: how many accounts there are of each currency and status, and their
// money.

type State = {
  currency: string
  status: string
  ledger_balance: string
  held: string
  available: string
}

const tallies: TallyTable = {
  table: 'read.totals_tallies',
  keys: { currency: 'text', status: 'text' },
  sums: ['accounts', 'ledger_balance', 'held', 'available', 'events'],
}

export const totals = withOwnHeads<State>({
  name: 'totals',
  carried: {
    columns: {
      currency: 'text',
      status: 'text',
      ledger_balance: 'bigint',
      held: 'bigint',
      available: 'bigint',
    },
    after: stateAfter,
  },
  fold(transaction, changes) {
    const tally = new Tally(tallies)
    for (const { before, after, events } of changes) {
      if (before !== undefined) takeOut(tally, before)
      const sums = [1n, ...moneyOf(after), BigInt(events.length)]
      tally.add([after.currency, after.status], sums, newestAt(events))
    }
    tally.send(transaction)
  },
  forget(transaction, _account, before) {
    const tally = new Tally(tallies)
    takeOut(tally, before)
    tally.send(transaction)
  },
})

const moneyOf = (state: State) =>
  [state.ledger_balance, state.held, state.available].map((amount) => BigInt(amount))

function takeOut(tally: Tally, state: State): void {
  tally.add([state.currency, state.status], [-1n, ...moneyOf(state).map((each) => -each), 0n])
}

function stateAfter(before: State | undefined, events: readonly ProjectedEvent[]): State {
  const { status, ledgerBalance, held, available } = events.at(-1)!.event.payload.after
  const currency = before?.currency ?? currencyOf(events[0]!)
  return { currency, status, ledger_balance: ledgerBalance, held, available }
}

function currencyOf({ event }: ProjectedEvent): string {
  assert(event.type === 'AccountOpened.v1', 'the first event of an account opens it')
  return event.payload.currency
}
