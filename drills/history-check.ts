import type { Finding } from './findings.ts'
import type { CommandKind, HistoryEntry } from './history.ts'
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
  const unasked = [...effects].flatMap(([key, [event]]) =>
    // The timer's: whether its time had come, the account check says.
    event?.type === 'HoldExpired.v1'
      ? []
      : [`${event?.type} of ${event?.account_id}, key ${key}: nobody sent it`],
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

/** What a command leaves on the account it is about, and on the other where there is one. */
const effectsOf: Record<CommandKind, { own: string; other?: string }> = {
  open: { own: 'AccountOpened.v1' },
  deposit: { own: 'FundsDeposited.v1' },
  withdraw: { own: 'FundsWithdrawn.v1' },
  transfer: { own: 'FundsTransferredOut.v1', other: 'FundsTransferredIn.v1' },
  hold: { own: 'HoldPlaced.v1' },
  capture: { own: 'HoldCaptured.v1' },
  release: { own: 'HoldReleased.v1' },
  reverse: { own: 'TransactionReversed.v1', other: 'TransactionReversed.v1' },
  limit: { own: 'OverdraftLimitChanged.v1' },
  details: { own: 'AccountDetailsUpdated.v1' },
  freeze: { own: 'AccountFrozen.v1' },
  unfreeze: { own: 'AccountUnfrozen.v1' },
  close: { own: 'AccountClosed.v1' },
  reopen: { own: 'AccountReopened.v1' },
  batch: { own: 'FundsWithdrawn.v1', other: 'FundsDeposited.v1' },
}

/** Each event's type and account. */
function wantedEvents({ kind, account, to, amount }: HistoryEntry): string[] {
  const { own, other } = effectsOf[kind]
  return [
    `${own} of ${account}`,
    ...(other === undefined || to === undefined ? [] : [`${other} of ${to}`]),
    ...(kind === 'open' && amount > 0n ? [`FundsDeposited.v1 of ${account}`] : []),
  ]
}

/** Where an event says an amount, it is the command's. */
function amountFits({ amount }: HistoryEntry, { payload, type }: LedgerEvent): boolean {
  const { amount: moved, overdraftLimit, owner } = JSON.parse(payload) as Record<string, unknown>
  if (type === 'OverdraftLimitChanged.v1') return overdraftLimit === String(amount)
  if (type === 'AccountDetailsUpdated.v1') return owner === `Drill ${amount}`
  return moved === undefined || moved === String(amount)
}
