import type { ClientBase } from 'pg'

// What must be true of the tables whatever was asked of them, read and added up without any of the
// code that wrote them. Of the accounts whose ids begin alike, so that one database serves many runs.

type Event = {
  account: string
  version: number
  id: string
  type: string
  payload: Record<string, string> & { after: Record<string, string | number> }
  position: bigint
}
type Row = {
  id: string
  version: number
  status: string
  balance: bigint
  held: bigint
  limit: bigint
}
type Entry = {
  transaction: string
  account: string
  version: number | null
  currency: string
  amount: bigint
}
type HoldRow = { id: string; account: string; amount: bigint; status: string }
type Queued = { position: bigint; id: string; account: string; version: number; payload: string }

export type Ledger = {
  accounts: Row[]
  events: Event[]
  entries: Entry[]
  holds: HoldRow[]
  queue: Queued[]
}

export async function readLedger(client: ClientBase, prefix: string): Promise<Ledger> {
  const rows = async (text: string) => (await client.query(text, [`${prefix}%`])).rows
  const accounts = await rows(
    `select id, version::int, status, ledger_balance as balance, held, overdraft_limit as limit
     from ledger.accounts where id like $1`,
  )
  const events = await rows(
    `select account_id as account, version::int, id, type, payload, outbox_position as position
     from ledger.account_events where account_id like $1 order by account_id, version`,
  )
  const entries = await rows(
    `select transaction_id as transaction, account_id as account, account_version::int as version,
       currency, amount
     from ledger.entries where transaction_id in
       (select transaction_id from ledger.entries where account_id like $1)`,
  )
  const holds = await rows(
    `select id, account_id as account, amount, status from ledger.holds where account_id like $1`,
  )
  const queue = await rows(
    `select position, id, aggregateid as account, aggregateversion::int as version,
       payload::text as payload
     from outbox.events where aggregateid like $1`,
  )
  const whole = (names: string[]) => (row: Record<string, string>) => ({
    ...row,
    ...Object.fromEntries(names.map((name) => [name, BigInt(row[name] as string)])),
  })
  return {
    accounts: accounts.map(whole(['balance', 'held', 'limit'])),
    events: events.map(whole(['position'])),
    entries: entries.map(whole(['amount'])),
    holds: holds.map(whole(['amount'])),
    queue: queue.map(whole(['position'])),
  } as unknown as Ledger
}

/** Every promise that the tables break, and where. */
export function brokenIn(ledger: Ledger): string[] {
  const ids = new Set(ledger.accounts.map(({ id }) => id))
  for (const { account } of [...ledger.events, ...ledger.holds]) ids.add(account)
  return [...[...ids].flatMap((id) => brokenOf(ledger, id)), ...unbalancedIn(ledger)]
}

function unbalancedIn({ entries, accounts }: Ledger): string[] {
  const sums = new Map<string, bigint>()
  const add = (name: string, amount: bigint) => sums.set(name, (sums.get(name) ?? 0n) + amount)
  for (const { transaction, currency, amount } of entries) add(`${transaction} ${currency}`, amount)
  const broken = [...sums].filter(([, sum]) => sum !== 0n).map(([name]) => `zero: ${name}`)
  // What all accounts have is what came in from outside and did not go out again.
  const cash = entries.filter(({ account }) => account.startsWith('sluice-cash-'))
  const total = (amounts: bigint[]) => amounts.reduce((sum, amount) => sum + amount, 0n)
  const kept = total(accounts.map(({ balance }) => balance))
  return kept + total(cash.map(({ amount }) => amount)) === 0n
    ? broken
    : [...broken, 'conserved: money']
}

function brokenOf(ledger: Ledger, id: string): string[] {
  const own = <T extends { account: string }>(rows: T[]) => rows.filter((row) => row.account === id)
  const events = own(ledger.events)
  const row = ledger.accounts.find((account) => account.id === id)
  const entries = own(ledger.entries)
  const active = own(ledger.holds).filter(({ status }) => status === 'active')
  const sum = (rows: { amount: bigint }[]) => rows.reduce((total, each) => total + each.amount, 0n)
  const holds: [string, boolean][] = [
    ['versions', events.every(({ version }, index) => version === index + 1)],
    ['versions', row?.version === events.length],
    ['positions', events.every((each, n) => n === 0 || each.position > events[n - 1]!.position)],
    ['queue', isQueued(events, own(ledger.queue))],
    ['held', row?.held === sum(active)],
    ['balance', row?.balance === sum(entries)],
    ['closed', row?.status !== 'closed' || (row.balance === 0n && row.held === 0n)],
  ]
  const found = holds.filter(([, isTrue]) => !isTrue).map(([name]) => `${name}: ${id}`)
  return [...found, ...foldFaults(events, row, entries)]
}

function isQueued(events: Event[], queue: Queued[]): boolean {
  const text = (row: Omit<Queued, 'payload'>, payload: unknown) =>
    `${row.position} ${row.id} ${row.version} ${JSON.stringify(payload)}`
  const happened = events.map((event) => text(event, event.payload))
  const queued = queue.map((row) => text(row, JSON.parse(row.payload)))
  return happened.toSorted().join() === queued.toSorted().join()
}

const signs: Record<string, bigint> = {
  FundsDeposited: 1n,
  FundsTransferredIn: 1n,
  FundsWithdrawn: -1n,
  FundsTransferredOut: -1n,
  FundsForceDebited: -1n,
  HoldCaptured: -1n,
}
/** Nothing else may take what is available below zero; nor may these. */
const mayNotOverdraw = [
  'FundsWithdrawn',
  'FundsTransferredOut',
  'HoldPlaced',
  'TransactionReversed',
]

/** Adds up what happened, beside what each event and the row say of it. */
function foldFaults(events: Event[], row: Row | undefined, entries: Entry[]): string[] {
  let [balance, held, limit] = [0n, 0n, 0n]
  const broken: string[] = []
  for (const { account, version, type: versioned, payload } of events) {
    const [type = ''] = versioned.split('.')
    const amount = BigInt(payload.amount ?? 0)
    const before = balance - held + limit
    const sign =
      type === 'TransactionReversed' ? (payload.direction === 'credit' ? 1n : -1n) : signs[type]
    const change = sign === undefined ? 0n : sign * amount
    balance += change
    if (type === 'HoldPlaced') held += amount
    if (type === 'HoldReleased' || type === 'HoldExpired') held -= amount
    if (type === 'HoldCaptured') held -= amount + BigInt(payload.released ?? 0)
    if (payload.overdraftLimit !== undefined) limit = BigInt(payload.overdraftLimit)
    const available = balance - held + limit
    const at = `${account} version ${version}`
    const { after } = payload
    const said = [after.version, after.ledgerBalance, after.held, after.available].join()
    if (said !== [version, balance, held, available].join()) broken.push(`fold: ${at}`)
    if (mayNotOverdraw.includes(type) && available < 0n && available < before) {
      broken.push(`limit: ${at}`)
    }
    const moved = entries.filter((entry) => entry.version === version)
    if (moved.map((entry) => entry.amount).join() !== (change === 0n ? '' : String(change))) {
      broken.push(`entries: ${at}`)
    }
  }
  const isFold = row?.balance === balance && row.held === held && row.limit === limit
  return isFold ? broken : [...broken, `fold: ${row?.id}`]
}
