import type { Finding } from './findings.ts'
import type { HistoryEntry } from './history.ts'
import type { LedgerEvent } from './tables.ts'

// I7: what callers were told, against the events that carry their keys.

export function checkHistory(
  history: readonly HistoryEntry[],
  events: readonly LedgerEvent[],
): Finding[] {
  const effects = new Map<string, LedgerEvent[]>()
  for (const event of events) {
    const own = effects.get(event.correlationid)
    if (own === undefined) effects.set(event.correlationid, [event])
    else own.push(event)
  }
  const disagreements = history.flatMap(
    (entry) => disagreement(entry, effects.get(entry.key) ?? []) ?? [],
  )
  for (const { key } of history) effects.delete(key)
  const unasked = [...effects].map(
    ([key, [event]]) => `${event?.type} of ${event?.account_id}, key ${key}: nobody sent it`,
  )
  return [...disagreements, ...unasked].map((what) => ({ promise: 'I7', what }))
}

function disagreement(entry: HistoryEntry, events: readonly LedgerEvent[]): string | undefined {
  const { kind, key, account, final, first, version } = entry
  const name = `${kind} of ${account}, key ${key}`
  const told = first === final ? `told ${first}` : `told ${final} when sent again`
  if (final === 'unknown') return `${name} was never resolved`
  if (final === 'refused') {
    return events.length === 0 ? undefined : `${name}: ${told}, and has ${events.length} events`
  }
  const wanted = wantedEvents(entry)
  const found = events.map((event) => `${event.type} of ${event.account_id}`)
  if (found.toSorted().join() !== wanted.toSorted().join()) {
    return `${name}: ${told}, and has events ${found.join(', ') || 'none'}`
  }
  const says = (event: LedgerEvent) =>
    event.account_id === account && Number(event.version) === version
  if (version !== null && !events.some(says)) {
    return `${name}: ${told} version ${version}, which is not its event's`
  }
  if (!events.every((event) => amountFits(entry, event))) return `${name}: another amount`
  return undefined
}

/** Each event's type and account. */
function wantedEvents({ kind, account, to, amount }: HistoryEntry): string[] {
  const of = (type: string) => `${type} of ${account}`
  const deposited = of('FundsDeposited.v1')
  switch (kind) {
    case 'open':
      return [of('AccountOpened.v1'), ...(amount > 0n ? [deposited] : [])]
    case 'deposit':
      return [deposited]
    case 'withdraw':
      return [of('FundsWithdrawn.v1')]
    case 'close':
      return [of('AccountClosed.v1')]
    default:
      return [of('FundsTransferredOut.v1'), `FundsTransferredIn.v1 of ${to}`]
  }
}

function amountFits({ amount }: HistoryEntry, { payload }: LedgerEvent): boolean {
  const said = (JSON.parse(payload) as { amount?: string }).amount
  return said === undefined || said === String(amount)
}
