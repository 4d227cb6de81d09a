import { guardEvents } from './guard.ts'
import { headsIn } from './heads.ts'
import type { Origin, ProjectedEvent, Projection } from './projection.ts'
import type { Transaction } from './transaction.ts'

// A projection whose rows are not one per account keeps its heads in a table of their own,
// read.<name>_heads (account_id, version, last_event_id), and says only what its events mean. A batch
// costs one round trip for the heads, and what `fold` asks for.

/** What a row of heads remembers of its account beside the head. Every value travels as text. */
type Carried = Readonly<Record<string, string | null>>

/** What one batch makes of one account. */
type Change<State extends Carried, After extends State> = {
  account: string
  /** In version order; at least one. */
  events: readonly ProjectedEvent[]
  /** Undefined for an account that is new. */
  before: State | undefined
  /** What `after` made of it. */
  after: After
}

/** `After` is what is remembered, and whatever else `fold` is to be told of the account's events. */
type OwnHeads<State extends Carried, After extends State, Known> = {
  /** Letters, digits and hyphens; in the table's name a hyphen is an underscore. */
  name: string
  /** Reads what `after` and `fold` need besides, once the heads are locked; no round trip more. */
  look?: (transaction: Transaction) => Promise<Known>
  carried: {
    /** Each column of the heads' table beyond the three, with its type. */
    columns: Readonly<Record<keyof State & string, string>>
    /** What an account's row remembers after these events. */
    after: (before: State | undefined, events: readonly ProjectedEvent[], known: Known) => After
  }
  /**
   * Writes what the events say, in a few statements for all of them. Rows that several accounts
   * share are locked here, in an order that is the same for everybody.
   */
  fold(
    transaction: Transaction,
    changes: readonly Change<State, After>[],
    context: { known: Known; origin: Origin },
  ): void | Promise<void>
  /** Removes what `fold` wrote of an account; its row of heads is gone already. */
  forget(transaction: Transaction, account: string, before: State): void | Promise<void>
}

/** Heads that remember nothing else. */
export const nothingCarried = { columns: {}, after: (): Record<string, never> => ({}) }

export function withOwnHeads<State extends Carried, After extends State = State, Known = undefined>(
  plan: OwnHeads<State, After, Known>,
): Projection {
  const { name, look, carried, fold, forget } = plan
  const table = `read.${name.replaceAll('-', '_')}_heads`
  const names = Object.keys(carried.columns) as (keyof State & string)[]
  const heads = headsIn({ projection: name, table, key: 'account_id', carried: names })
  const save = savingHeads(name, table, carried.columns)
  return {
    name,
    async apply(transaction, events, origin) {
      if (events.length === 0) return { applied: 0, duplicates: 0, refusals: [] }
      const ids = [...new Set(events.map(({ account }) => account))]
      const [locked, known] = await Promise.all([
        heads.lock(transaction, ids),
        look?.(transaction) as Promise<Known>,
      ])
      const { accepted, duplicates, refusals } = guardEvents(locked, events)
      const changes = [...accepted].map(([account, own]): Change<State, After> => {
        const before = locked.get(account)?.carried as State | undefined
        return { account, events: own, before, after: carried.after(before, own, known) }
      })
      if (changes.length > 0) {
        await fold(transaction, changes, { known, origin })
        save(transaction, changes)
      }
      const applied = changes.reduce((sum, { events: own }) => sum + own.length, 0)
      return { applied, duplicates, refusals }
    },
    heads: heads.read,
    headsAfter: heads.after,
    versions: heads.versions,
    pass: heads.pass,
    async forget(transaction, account) {
      const head = await heads.remove(transaction, account)
      if (head !== undefined) await forget(transaction, account, head.carried as State)
    },
  }
}

type AnyChange = Change<Carried, Carried>

function savingHeads(name: string, table: string, types: Readonly<Record<string, string>>) {
  const carried = Object.keys(types)
  const columns = ['account_id', 'version', 'last_event_id', ...carried]
  const arrays = ['text', 'bigint', 'uuid', ...Object.values(types)]
    .map((type, index) => `$${index + 1}::${type}[]`)
    .join(', ')
  const assignments = columns.slice(1).map((column) => `${column} = n.${column}`)
  const insert = `insert into ${table} (${columns.join(', ')}) select * from unnest(${arrays})`
  const update = `update ${table} h set ${assignments.join(', ')}
    from unnest(${arrays}) as n(${columns.join(', ')}) where h.account_id = n.account_id`
  const send = (
    transaction: Transaction,
    statement: { name: string; text: string },
    changes: readonly AnyChange[],
  ) => {
    if (changes.length === 0) return
    const last = changes.map(({ events }) => events.at(-1)!)
    const values = [
      changes.map(({ account }) => account),
      last.map(({ version }) => version),
      last.map(({ id }) => id),
      ...carried.map((column) => changes.map(({ after }) => after[column])),
    ]
    transaction.send({ ...statement, values })
  }
  return (transaction: Transaction, changes: readonly AnyChange[]) => {
    const isNew = ({ before }: AnyChange) => before === undefined
    send(transaction, { name: `${name}-insert-heads`, text: insert }, changes.filter(isNew))
    const old = changes.filter((change) => !isNew(change))
    send(transaction, { name: `${name}-update-heads`, text: update }, old)
  }
}
