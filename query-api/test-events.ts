// What tests project: accounts with the history that command-api would have written for them.
import { randomUUID } from 'node:crypto'
import type { ConsumedRecord } from 'kafka/consumer'
import { encode, type OutboxRow } from 'outbox-relay/wire'
import { readRecord } from './event-record.ts'
import type { ProjectedEvent } from './projection.ts'

const owner = 'Zoë "quoted" \\ Müller, {1}'

/** Versions 1 to `count`: opened, then deposits of 10 minor units each. */
export function historyOf(account: string, count: number): OutboxRow[] {
  return Array.from({ length: count }, (_, index) => eventRow(account, index + 1))
}

/** One digit more than a bigint holds: passes every schema, and fails in the database. */
export const unstorableBalance = '9'.repeat(19)

/** One event; a movement's amount may be given, and then the balance after it too. */
export function eventRow(
  account: string,
  version: number,
  { amount = '10', balance = String(10 * (version - 1)), type = 'FundsDeposited.v1' } = {},
): OutboxRow {
  const after = { version, ledgerBalance: balance, held: '0', available: balance, status: 'open' }
  const at = timeOf(version)
  if (version === 1) {
    const opening = { owner, currency: 'EUR', exponent: 2, type: 'current', overdraftLimit: '0' }
    const payload = { accountId: account, ...opening, metadata: { tag: '"a",{b}' }, after }
    return outboxRow({ account, version, type: 'AccountOpened.v1', at, payload })
  }
  const movement = { transactionId: randomUUID(), amount, currency: 'EUR', reference: null }
  const payload = { accountId: account, ...movement, effectiveAt: at, after }
  return outboxRow({ account, version, type, at, payload })
}

export function outboxRow(event: {
  account: string
  version: number
  type: string
  at: string
  payload: unknown
}): OutboxRow {
  const { account, version, type, at, payload } = event
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
  const ids = { id: randomUUID(), correlation: randomUUID(), causation: randomUUID() }
  return [
    '1',
    ids.id,
    'account',
    account,
    String(version),
    type,
    at,
    'urn:sluice:command-api',
    '1.0',
    ids.correlation,
    ids.causation,
    traceparent,
    JSON.stringify(payload),
  ]
}

/** A minute later for each version. */
export function timeOf(version: number): string {
  const at = new Date(Date.UTC(2026, 0, 1) + version * 60_000).toISOString()
  return at.replace('.000Z', '.000000Z')
}

/** A row as a consumer gets it, at an offset. */
export function consumed(row: OutboxRow, offset: bigint): ConsumedRecord {
  const { key, value, headers } = encode(row)
  return {
    offset,
    key: Buffer.from(key),
    value: Buffer.from(value as string),
    headers: Object.fromEntries(headers.map(([name, text]) => [name, Buffer.from(text)])),
    timestampMs: 0,
  }
}

export function projected(row: OutboxRow): ProjectedEvent {
  const content = readRecord(consumed(row, 0n))
  if (content.kind === 'event') return content.event
  throw new Error('a heartbeat is no event of an account')
}

/** Takes from each list in turn, so that accounts mix and each keeps its order. */
export function interleave<T>(lists: readonly (readonly T[])[]): T[] {
  const longest = Math.max(0, ...lists.map((list) => list.length))
  return Array.from({ length: longest }, (_, index) => lists.map((list) => list[index]))
    .flat()
    .filter((item) => item !== undefined)
}
